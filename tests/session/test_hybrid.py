"""ML-KEM's part in a handshake: who offers, who takes it, who insists."""

from __future__ import annotations

import os

import pytest

from caetun.errors import Refused
from caetun.session import kem
from caetun.session.hybrid import Hybrid
from caetun.session.security import PostQuantum
from caetun.types import DropReason

pytestmark = pytest.mark.skipif(not kem.supported(), reason="this OpenSSL has no ML-KEM-768")

OFF, AUTO, REQUIRE = PostQuantum.OFF, PostQuantum.AUTO, PostQuantum.REQUIRE


def secrets(initiator: PostQuantum, responder: PostQuantum) -> tuple[bytes, bytes]:
    """What both have after a handshake: the initiator's and the responder's secret. Raises Refused."""
    one, other = Hybrid(initiator, os.urandom), Hybrid(responder, os.urandom)
    key = one.offer()
    theirs, ciphertext = other.encapsulate(None if key is None else key.public)
    return one.decapsulate(key, ciphertext), theirs


@pytest.mark.parametrize("initiator", [AUTO, REQUIRE])
@pytest.mark.parametrize("responder", [AUTO, REQUIRE])
def test_two_that_can_share_a_secret(initiator: PostQuantum, responder: PostQuantum) -> None:
    ours, theirs = secrets(initiator, responder)
    assert ours == theirs
    assert len(ours) == 32
    assert secrets(initiator, responder)[0] != ours


@pytest.mark.parametrize(("initiator", "responder"), [(OFF, OFF), (OFF, AUTO), (AUTO, OFF)])
def test_where_one_does_not_want_to_the_secret_is_empty(initiator: PostQuantum, responder: PostQuantum) -> None:
    assert secrets(initiator, responder) == (b"", b"")


@pytest.mark.parametrize(
    ("initiator", "responder", "said"),
    [(OFF, REQUIRE, "the initiator offers no ML-KEM"), (REQUIRE, OFF, "the responder has no ML-KEM")],
)
def test_whoever_insists_refuses_the_other(initiator: PostQuantum, responder: PostQuantum, said: str) -> None:
    with pytest.raises(Refused, match=said) as caught:
        secrets(initiator, responder)
    assert caught.value.reason is DropReason.HANDSHAKE_KEM


def test_a_ciphertext_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(Refused, match="did not ask for") as caught:
        Hybrid(OFF, os.urandom).decapsulate(None, bytes(1088))
    assert caught.value.reason is DropReason.HANDSHAKE_KEM
