"""The gate: what floods cost, and who gets through them. Virtual time."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from caetun.errors import Refused
from caetun.session.admission import (
    LOAD_HANDSHAKES,
    LOAD_UNFINISHED,
    MAX_COOKIES,
    MAX_COOKIES_PER_HOST,
    MAX_HANDSHAKES,
    MAX_HANDSHAKES_PER_HOST,
    Admission,
    Rate,
    host_of,
)
from caetun.session.cookies import Envelopes
from caetun.session.identity import SecretIdentity
from caetun.types import DropReason, Drops
from caetun.wire.handshake import Codes, Header, Piece, decode_codes, decode_cookie_reply, decode_piece
from caetun.wire.record import INITIATION

IDENTITY = SecretIdentity(b"\x07" * 32)


class Gate(Admission):
    """An admission with predictable entropy, whose initiators write to it."""

    def __init__(self) -> None:
        count = itertools.count()
        self.drops = Drops()
        super().__init__(
            IDENTITY.target, lambda size: hashlib.shake_128(str(next(count)).encode()).digest(size), self.drops
        )

    def busy(self, now: float, handshakes: int = LOAD_HANDSHAKES + 1) -> None:
        """So many handshakes happen now, each from a host of its own."""
        for number in range(handshakes):
            self.charge(f"198.51.100.{number} 1", now)


def written(envelopes: Envelopes, size: int = 100, sender: int = 1) -> list[tuple[Piece, Codes]]:
    datagrams = envelopes.post(IDENTITY.peer, Header(INITIATION, 1, sender, 0), bytes(size), 0.0)
    return read(datagrams)


def read(datagrams: list[bytes]) -> list[tuple[Piece, Codes]]:
    return [(decode_piece(decode_codes(datagram).covered), decode_codes(datagram)) for datagram in datagrams]


def host(number: int) -> str:
    return f"10.0.{number >> 8}.{number & 255} 4500"


def test_mac1() -> None:
    ((_, codes),) = written(Envelopes(IDENTITY))
    assert Gate().genuine(codes)
    assert not Gate().genuine(codes._replace(mac1=bytes(16)))
    assert not Gate().genuine(codes._replace(covered=codes.covered + b"x"))


def test_in_peace_nobody_needs_a_cookie() -> None:
    gate, ((piece, codes),) = Gate(), written(Envelopes(IDENTITY))
    gate.busy(0.0, LOAD_HANDSHAKES)
    assert not gate.under_load(0.0)
    assert gate.challenge(piece, codes, host(1), 0.0) is None
    # a wrong cookie is as good as none: the peer may have it from before our restart
    assert gate.challenge(piece, codes._replace(mac2=b"x" * 16), host(1), 0.0) is None


def test_under_load_a_cookie_opens_the_gate() -> None:
    gate, envelopes = Gate(), Envelopes(IDENTITY)
    ((piece, codes),) = written(envelopes)
    gate.busy(0.0)
    answer = gate.challenge(piece, codes, host(1), 0.5)
    assert answer is not None
    (reply,) = answer
    assert len(reply) == 64
    ((again, with_cookie),) = read(envelopes.take_cookie(decode_cookie_reply(reply), 0.5))
    assert again == piece
    assert gate.challenge(again, with_cookie, host(2), 0.5) is not None
    assert gate.challenge(again, with_cookie, host(1), 0.5) is None


def test_load_passes() -> None:
    gate = Gate()
    gate.busy(10.0)
    assert gate.under_load(10.999)
    assert not gate.under_load(11.0)


def test_half_messages_are_load_too() -> None:
    gate, now = Gate(), 0.0
    for number in range(LOAD_UNFINISHED + 1):
        assert not gate.under_load(now)
        (first, _), _ = written(Envelopes(IDENTITY), size=1157, sender=number)
        assert gate.join(first, host(number), now) is None
    assert gate.under_load(now)
    assert not gate.under_load(now + 5.0)
    assert gate.drops == {DropReason.HANDSHAKE_INCOMPLETE: LOAD_UNFINISHED + 1}


def test_only_the_first_piece_is_answered() -> None:
    gate = Gate()
    gate.busy(0.0)
    (first, first_codes), (second, second_codes) = written(Envelopes(IDENTITY), size=1157)
    assert gate.challenge(second, second_codes, host(1), 0.0) == []
    answer = gate.challenge(first, first_codes, host(1), 0.0)
    assert answer is not None
    assert len(answer) == 1


def test_cookie_replies_are_limited_in_all_and_by_host() -> None:
    gate, ((piece, codes),) = Gate(), written(Envelopes(IDENTITY))
    gate.busy(0.0)

    def replies(source: str) -> int:
        answer = gate.challenge(piece, codes, source, 0.0)
        assert answer is not None
        return len(answer)

    assert sum(replies(host(0)) for _ in range(100)) == MAX_COOKIES_PER_HOST
    assert sum(replies(host(number)) for number in range(1, 2000)) == MAX_COOKIES - MAX_COOKIES_PER_HOST


def test_handshakes_are_limited_by_host_under_load_only() -> None:
    gate = Gate()
    for _ in range(LOAD_HANDSHAKES + 1):  # a site behind one address, in peace
        gate.charge(host(0), 0.0)
    with pytest.raises(Refused) as refused:
        gate.charge(host(0), 0.0)
    assert refused.value.reason is DropReason.HANDSHAKE_OVERLOAD
    for _ in range(MAX_HANDSHAKES_PER_HOST):
        gate.charge(host(1), 0.0)
    with pytest.raises(Refused):
        gate.charge("10.0.0.1 another-port", 0.0)
    gate.charge(host(1), 1.0)


def test_handshakes_are_limited_in_all() -> None:
    gate = Gate()
    gate.busy(0.0, MAX_HANDSHAKES)
    with pytest.raises(Refused) as refused:
        gate.charge(host(0), 0.9)
    assert refused.value.reason is DropReason.HANDSHAKE_OVERLOAD
    gate.charge(host(0), 1.0)


def test_a_thousand_flooding_addresses_cost_few_handshakes() -> None:
    gate, ((piece, codes),) = Gate(), written(Envelopes(IDENTITY))
    worked = 0
    for number in range(10_000):
        source, now = host(number % 1000), number / 10_000
        if gate.challenge(piece, codes, source, now) is None and gate.join(piece, source, now) is not None:
            gate.charge(source, now)
            worked += 1
    assert worked == LOAD_HANDSHAKES + 1


def test_rate_forgets() -> None:
    rate = Rate(total=3, per_host=1)
    assert [rate.take("a", 0.0, strict=True) for _ in range(2)] == [True, False]
    assert rate.take("a", 0.5, strict=False)
    assert rate.take("b", 0.5, strict=True)
    assert rate.full(0.5)
    assert not rate.take("c", 0.9, strict=False)
    assert rate.recent(1.0) == 2
    assert not rate.take("a", 1.0, strict=True)
    assert rate.take("a", 1.5, strict=True)
    assert rate.recent(10.0) == 0
    assert not rate._hosts


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("192.0.2.1 4500", "192.0.2.1"),
        ("2001:db8:0:1::2 4500", "20010db800000001/64"),
        ("2001:db8:0:1:ffff::9 1", "20010db800000001/64"),
        ("::ffff:192.0.2.1 4500", "192.0.2.1"),
        ("fe80::1%eth0 4500", "fe80000000000000/64"),
        ("not:an:address 1", "not:an:address"),
        ("memory", "memory"),
    ],
)
def test_host_of(source: str, expected: str) -> None:
    assert host_of(source) == expected
