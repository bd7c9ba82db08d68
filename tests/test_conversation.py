"""Whom we have met: one that comes back after another one shows that two of them use one key."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import pytest

from caetun.conversation import Conversation
from caetun.output import Output
from caetun.session.keypair import KeyPair
from caetun.types import Drops
from tests.session.established import HELLO, established


def met(conversation: Conversation, incarnation: int) -> bool:
    ours, _ = established(1, hello=dataclasses.replace(HELLO, incarnation=incarnation))
    return conversation.met(KeyPair(ours, 0.0), Output())


@pytest.mark.parametrize(
    ("incarnations", "told"),
    [
        ([7, 7, 7], 0),
        # started again, and again
        ([7, 8, 9, 10], 0),
        ([7, 8, 7], 1),
        ([7, 8, 7, 8, 8, 7], 3),
        # older versions say no number
        ([0, 0, 7, 0, 7], 0),
    ],
)
def test_two_with_one_key_come_by_turns(incarnations: list[int], told: int) -> None:
    conversation = Conversation(object(), cast(Any, SimpleNamespace(link=None)), Drops())
    assert sum(met(conversation, each) for each in incarnations) == told
