"""Messages go to the service of their kind; of a peer that is closed out only authentication hears."""

from __future__ import annotations

from typing import Any, cast

import pytest

from caetun.daemon.services import MAX_OUTSIDE, Services
from caetun.peers import Peer
from caetun.session.channel import DEAF, MET, Kind
from caetun.types import DropReason, Drops

ALICE = cast(Peer, "alice")


class Listener:
    """A service that remembers what it hears."""

    def __init__(self) -> None:
        self.heard_of: list[Any] = []

    def met(self, peer: Peer) -> None:
        self.heard_of.append("met")

    def deaf(self, peer: Peer) -> None:
        self.heard_of.append("deaf")

    def heard(self, peer: Peer, body: bytes) -> None:
        self.heard_of.append(body)

    def gone(self, peer: Peer) -> None:
        self.heard_of.append("gone")


@pytest.fixture
def made() -> tuple[Services, Listener, Listener, set[Peer]]:
    services, keeper, other, outside = Services(Drops()), Listener(), Listener(), {ALICE}
    services.add(Kind.AUTHENTICATION, keeper)
    services.add(Kind.CONFIGURATION, other)
    services.guard(lambda peer: peer in outside)
    return services, keeper, other, outside


def test_who_is_let_in_is_heard_from_the_beginning(made: tuple[Services, Listener, Listener, set[Peer]]) -> None:
    services, keeper, other, outside = made
    services.said(ALICE, MET, b"")
    services.said(ALICE, Kind.CONFIGURATION, b"offer")
    services.said(ALICE, Kind.AUTHENTICATION, b"answer")
    assert (keeper.heard_of, other.heard_of) == (["met", b"answer"], [])
    outside.clear()
    services.let_in(ALICE)
    services.said(ALICE, Kind.CONFIGURATION, b"more")
    assert other.heard_of == ["met", b"offer", b"more"]
    assert keeper.heard_of == ["met", b"answer"]


def test_who_waits_outside_cannot_say_much(made: tuple[Services, Listener, Listener, set[Peer]]) -> None:
    services, _, other, outside = made
    services.said(ALICE, MET, b"")
    for number in range(20):
        services.said(ALICE, Kind.CONFIGURATION, bytes((number,)))
    assert services._drops == {DropReason.AUTH_UNEXPECTED: 20 - MAX_OUTSIDE + 1}
    services.said(ALICE, MET, b"")  # it was started again
    outside.clear()
    services.let_in(ALICE)
    assert other.heard_of == ["met"]


def test_who_goes_is_forgotten(made: tuple[Services, Listener, Listener, set[Peer]]) -> None:
    services, keeper, other, outside = made
    services.said(ALICE, DEAF, b"")
    services.gone(ALICE)
    outside.clear()
    services.let_in(ALICE)
    assert (keeper.heard_of, other.heard_of) == (["deaf", "gone"], ["gone"])


def test_who_is_confined_has_one_service_and_may_ask_for_nothing_else() -> None:
    services, mesh, other, keeper = Services(Drops()), Listener(), Listener(), Listener()
    for kind, service in ((Kind.MESH, mesh), (Kind.CONFIGURATION, other), (Kind.AUTHENTICATION, keeper)):
        services.add(kind, service)
    services.confine(Kind.MESH, lambda peer: peer is ALICE)
    bob = cast(Peer, "bob")
    for peer in (ALICE, bob):
        for kind in (MET, DEAF, Kind.MESH, Kind.CONFIGURATION, Kind.AUTHENTICATION):
            services.said(peer, kind, peer.encode() if kind > 0 else b"")  # type: ignore[attr-defined]
    assert mesh.heard_of == ["met", "deaf", b"alice", "met", "deaf", b"bob"]
    assert other.heard_of == keeper.heard_of == ["met", "deaf", b"bob"]
    assert services._drops == {DropReason.CHANNEL_UNKNOWN: 2}
