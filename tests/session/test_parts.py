"""Messages in pieces, put together within bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from caetun.session.parts import MAX_UNFINISHED, MAX_UNFINISHED_PER_HOST, UNFINISHED_SECONDS, Parts
from caetun.types import DropReason, Drops
from caetun.wire.handshake import Header, Piece
from caetun.wire.record import INITIATION


def piece(number: int, total: int, sender: int = 1, suite: int = 1) -> Piece:
    return Piece(Header(INITIATION, suite, sender, 0), number, total, b"abcd"[number : number + 1])


def arrive(parts: Parts, piece: Piece, host: str = "192.0.2.1", now: float = 0.0) -> bytes | None:
    return parts.add(piece, f"{host} 4500", host, now)


@given(st.permutations(range(4)))
def test_order_does_not_matter(order: list[int]) -> None:
    parts = Parts(Drops())
    arrived = [arrive(parts, piece(number, 4)) for number in order]
    assert arrived == [None, None, None, b"abcd"]
    assert len(parts) == 0


def test_a_message_in_one_piece_needs_no_table() -> None:
    parts = Parts(Drops())
    assert arrive(parts, piece(0, 1)) == b"a"
    assert len(parts) == 0


def test_pieces_that_differ_in_anything_do_not_meet() -> None:
    drops = Drops()
    parts = Parts(drops)
    assert arrive(parts, piece(0, 2)) is None
    assert arrive(parts, piece(1, 2, sender=2)) is None
    assert arrive(parts, piece(1, 2, suite=2)) is None
    assert arrive(parts, piece(1, 2), host="192.0.2.2") is None
    assert arrive(parts, piece(1, 3)) is None
    assert len(parts) == 5


def test_repeated_piece_is_counted_and_changes_nothing() -> None:
    drops = Drops()
    parts = Parts(drops)
    arrive(parts, piece(0, 2))
    forged = piece(0, 2)._replace(part=b"x")
    assert arrive(parts, forged) is None
    assert arrive(parts, piece(1, 2)) == b"ab"
    assert drops == {DropReason.HANDSHAKE_UNEXPECTED: 1}


def test_a_piece_too_late() -> None:
    drops = Drops()
    parts = Parts(drops)
    arrive(parts, piece(0, 2), now=10.0)
    assert arrive(parts, piece(1, 2), now=10.0 + UNFINISHED_SECONDS) is None
    assert drops == {DropReason.HANDSHAKE_INCOMPLETE: 1}
    assert len(parts) == 1


def test_the_oldest_gives_way() -> None:
    drops = Drops()
    parts = Parts(drops)
    for number in range(MAX_UNFINISHED + 1):
        arrive(parts, piece(0, 2), host=f"192.0.2.{number}")
    assert len(parts) == MAX_UNFINISHED
    assert drops == {DropReason.HANDSHAKE_INCOMPLETE: 1}
    assert arrive(parts, piece(1, 2), host=f"192.0.2.{MAX_UNFINISHED}") == b"ab"


def test_a_host_pushes_out_only_its_own() -> None:
    drops = Drops()
    parts = Parts(drops)
    arrive(parts, piece(0, 2), host="198.51.100.1")
    for sender in range(100):
        arrive(parts, piece(0, 2, sender))
    assert len(parts) == 1 + MAX_UNFINISHED_PER_HOST
    assert drops == {DropReason.HANDSHAKE_INCOMPLETE: 100 - MAX_UNFINISHED_PER_HOST}
    assert arrive(parts, piece(1, 2), host="198.51.100.1") == b"ab"
