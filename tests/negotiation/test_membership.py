"""Invitations: good once, for a while, for one name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from caetun.errors import ConfigurationError
from caetun.negotiation.membership import MAX_INVITATIONS, REMEMBERED_SECONDS, Membership
from caetun.negotiation.store import Store

TOKEN, ALICE, BOB = (bytes((number,)) * 32 for number in (1, 2, 3))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Membership]:
    store = Store(tmp_path / "hub.sqlite")
    yield Membership(store)
    store.close()


def test_an_invitation_makes_one_member_once(hub: Membership) -> None:
    hub.invite(TOKEN, "alice", "access=7", 100.0, 60.0)
    assert hub.redeem(TOKEN, ALICE, 120.0) is None
    assert [(member.key, member.name, member.words) for member in hub.members()] == [(ALICE, "alice", "access=7")]
    assert "used already" in str(hub.redeem(TOKEN, BOB, 121.0))
    assert hub.redeem(TOKEN, ALICE, 121.0) is None, "whose answer was lost may ask again"
    assert len(hub.members()) == 1


def test_it_expires_and_is_remembered_for_a_while(hub: Membership) -> None:
    hub.invite(TOKEN, "alice", "", 0.0, 60.0)
    assert "has expired" in str(hub.redeem(TOKEN, ALICE, 60.0))
    assert hub.members() == []
    assert [each.name for each in hub.invitations(60.0 + REMEMBERED_SECONDS)] == ["alice"]
    assert hub.invitations(61.0 + REMEMBERED_SECONDS) == []


def test_a_new_invitation_of_a_name_ends_the_one_before(hub: Membership) -> None:
    hub.invite(TOKEN, "alice", "", 0.0, 60.0)
    hub.invite(b"\x09" * 32, "alice", "", 1.0, 60.0)
    assert "was withdrawn" in str(hub.redeem(TOKEN, ALICE, 2.0))


def test_a_member_is_not_invited_again_before_it_is_expelled(hub: Membership) -> None:
    hub.invite(TOKEN, "alice", "", 0.0, 60.0)
    hub.redeem(TOKEN, ALICE, 1.0)
    with pytest.raises(ConfigurationError, match="is a member already: caetun expel alice first"):
        hub.invite(b"\x09" * 32, "alice", "", 2.0, 60.0)
    assert hub.expel("alice")
    assert not hub.expel("alice")
    hub.invite(b"\x09" * 32, "alice", "", 3.0, 60.0)


def test_invitations_are_bounded(hub: Membership) -> None:
    for number in range(MAX_INVITATIONS):
        hub.invite(number.to_bytes(32, "big"), f"guest{number}", "", 0.0, 60.0)
    with pytest.raises(ConfigurationError, match="wait until some expire"):
        hub.invite(TOKEN, "alice", "", 1.0, 60.0)
    hub.invite(TOKEN, "alice", "", REMEMBERED_SECONDS + 61.0, 60.0)


def test_a_change_by_somebody_else_is_seen(tmp_path: Path) -> None:
    ours, theirs = Store(tmp_path / "hub.sqlite"), Store(tmp_path / "hub.sqlite")
    hub = Membership(ours)
    before = hub.version
    assert hub.version == before
    Membership(theirs).invite(TOKEN, "alice", "", 0.0, 60.0)
    assert hub.version != before
    ours.close()
    theirs.close()
