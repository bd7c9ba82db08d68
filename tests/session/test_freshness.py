"""Times that only grow, and ephemeral keys of our own."""

from __future__ import annotations

import pytest

from caetun.errors import Refused
from caetun.session.freshness import MAX_OWN, Freshness
from caetun.session.identity import PeerId
from caetun.types import DropReason

ALICE, BOB = PeerId(b"a" * 32), PeerId(b"b" * 32)


def test_stamps_grow_whatever_the_clock_does() -> None:
    freshness = Freshness()
    stamps = [freshness.stamp(wall) for wall in (1000.0, 1000.0, 999.0, -5.0, 1000.5)]
    assert stamps == [1000 * 10**9, 1000 * 10**9 + 1, 1000 * 10**9 + 2, 1000 * 10**9 + 3, 1_000_500_000_000]


def test_a_time_is_accepted_once_a_peer() -> None:
    freshness = Freshness()
    freshness.check_replay(ALICE, 7)
    freshness.check_replay(ALICE, 7)  # it was not accepted: nothing has changed
    freshness.accept(ALICE, 7)
    for time in (0, 6, 7):
        with pytest.raises(Refused) as refused:
            freshness.check_replay(ALICE, time)
        assert refused.value.reason is DropReason.HANDSHAKE_REPLAYED
    freshness.check_replay(ALICE, 8)
    freshness.check_replay(BOB, 0)


def test_own_keys_are_known_again_up_to_a_number() -> None:
    freshness = Freshness()
    keys = [number.to_bytes(32, "big") for number in range(MAX_OWN + 1)]
    for key in keys[:MAX_OWN]:
        freshness.sent(key)
    with pytest.raises(Refused) as refused:
        freshness.check_reflection(keys[0])
    assert refused.value.reason is DropReason.HANDSHAKE_REFLECTED
    freshness.check_reflection(keys[MAX_OWN])
    freshness.sent(keys[MAX_OWN])
    freshness.check_reflection(keys[0])
    with pytest.raises(Refused):
        freshness.check_reflection(keys[1])
