"""Cookies: handed out, used, outdated."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from caetun.errors import Refused
from caetun.session.cookies import COOKIE_SECONDS, MAX_KEPT, CookieMint, Envelopes, mac, mac1_key
from caetun.session.identity import SecretIdentity
from caetun.session.noise import Entropy
from caetun.types import DropReason
from caetun.wire.handshake import Header, decode_codes, decode_cookie_reply
from caetun.wire.record import INITIATION, RESPONSE

IDENTITY = SecretIdentity(b"\x07" * 32)
PEER = IDENTITY.peer
HOME, ELSEWHERE = "192.0.2.1 4500", "192.0.2.1 4501"


def counting_entropy() -> Entropy:
    count = itertools.count()
    return lambda size: hashlib.shake_128(str(next(count)).encode()).digest(size)


def header(sender: int, kind: int = INITIATION) -> Header:
    return Header(kind, 1, sender, 0 if kind == INITIATION else 99)


def post(envelopes: Envelopes, now: float, sender: int = 1) -> bytes:
    """A message in one datagram."""
    (datagram,) = envelopes.post(PEER, header(sender), b"noise", now)
    return datagram


def demand(mint: CookieMint, datagram: bytes, now: float, sender: int = 1, source: str = HOME) -> bytes:
    return mint.reply(sender, decode_codes(datagram).mac1, source, now)


def with_cookie(mint: CookieMint, now: float) -> Envelopes:
    """Envelopes that got a cookie at `now`."""
    envelopes = Envelopes(IDENTITY)
    reply = demand(mint, post(envelopes, now), now)
    envelopes.take_cookie(decode_cookie_reply(reply), now)
    return envelopes


def test_codes_without_a_cookie() -> None:
    datagram = post(Envelopes(IDENTITY), 0.0)
    codes = decode_codes(datagram)
    assert codes.covered.endswith(b"noise")
    key = hashlib.blake2s(b"caetun 1 mac1" + IDENTITY.target).digest()
    assert codes.mac1 == hashlib.blake2s(codes.covered, key=key, digest_size=16).digest()
    assert mac(mac1_key(IDENTITY.target), codes.covered) == codes.mac1
    assert codes.mac2 == bytes(16)


def test_a_cookie_makes_the_same_message_right() -> None:
    mint, envelopes = CookieMint(IDENTITY.target, counting_entropy()), Envelopes(IDENTITY)
    datagram = post(envelopes, 0.0)
    assert not mint.right(decode_codes(datagram), HOME, 0.0)
    (again,) = envelopes.take_cookie(decode_cookie_reply(demand(mint, datagram, 0.0)), 0.1)
    assert again[:-16] == datagram[:-16]
    assert mint.right(decode_codes(again), HOME, 0.2)
    assert not mint.right(decode_codes(again), ELSEWHERE, 0.2)


def test_a_cookie_serves_later_messages_until_it_is_old() -> None:
    mint = CookieMint(IDENTITY.target, counting_entropy())
    envelopes = with_cookie(mint, 0.0)
    just_before = COOKIE_SECONDS - 0.1
    assert mint.right(decode_codes(post(envelopes, just_before)), HOME, just_before)
    assert decode_codes(post(envelopes, COOKIE_SECONDS)).mac2 == bytes(16)


def test_cookies_outlive_one_change_of_the_secret() -> None:
    mint = CookieMint(IDENTITY.target, counting_entropy())
    codes = decode_codes(post(with_cookie(mint, 0.0), 1.0))
    assert mint.right(codes, HOME, COOKIE_SECONDS)
    assert mint.right(codes, HOME, 2 * COOKIE_SECONDS - 0.1)
    assert not mint.right(codes, HOME, 2 * COOKIE_SECONDS)


def test_after_a_long_pause_the_last_secret_is_dead() -> None:
    mint = CookieMint(IDENTITY.target, counting_entropy())
    codes = decode_codes(post(with_cookie(mint, 0.0), 1.0))
    assert not mint.right(codes, HOME, 2 * COOKIE_SECONDS)


def test_a_message_is_repeated_once() -> None:
    mint, envelopes = CookieMint(IDENTITY.target, counting_entropy()), Envelopes(IDENTITY)
    datagram = post(envelopes, 0.0)
    reply = decode_cookie_reply(demand(mint, datagram, 0.0))
    assert envelopes.take_cookie(reply, 0.0)
    with pytest.raises(Refused) as refused:
        envelopes.take_cookie(reply, 0.0)
    assert refused.value.reason is DropReason.HANDSHAKE_UNEXPECTED


def test_all_pieces_are_repeated() -> None:
    mint, envelopes = CookieMint(IDENTITY.target, counting_entropy()), Envelopes(IDENTITY)
    datagrams = envelopes.post(PEER, header(1), bytes(1157), 0.0)
    again = envelopes.take_cookie(decode_cookie_reply(demand(mint, datagrams[0], 0.0)), 0.0)
    assert [datagram[:-16] for datagram in again] == [datagram[:-16] for datagram in datagrams]
    assert all(mint.right(decode_codes(datagram), HOME, 0.0) for datagram in again)


def test_a_cookie_for_another_message_is_refused() -> None:
    mint, envelopes = CookieMint(IDENTITY.target, counting_entropy()), Envelopes(IDENTITY)
    old = post(envelopes, 0.0, sender=1)
    post(envelopes, 1.0, sender=2)
    for sender, reason in ((3, DropReason.HANDSHAKE_UNEXPECTED), (2, DropReason.HANDSHAKE_FORGED)):
        with pytest.raises(Refused) as refused:
            envelopes.take_cookie(decode_cookie_reply(demand(mint, old, 1.0, sender)), 1.0)
        assert refused.value.reason is reason


def test_initiations_that_race_by_several_links_are_all_repeated() -> None:
    """Each far address has a cookie of its own, and the answers come in any order."""
    mint, envelopes = CookieMint(IDENTITY.target, counting_entropy()), Envelopes(IDENTITY)
    sources = [f"192.0.2.1 {port}" for port in range(4500, 4504)]
    sent = {source: post(envelopes, 0.0, sender) for sender, source in enumerate(sources)}
    for sender, source in reversed([*enumerate(sources)]):
        reply = demand(mint, sent[source], 0.1, sender, source)
        (again,) = envelopes.take_cookie(decode_cookie_reply(reply), 0.2)
        assert mint.right(decode_codes(again), source, 0.2)


@pytest.mark.parametrize("kind", [INITIATION, RESPONSE])
def test_only_so_many_are_kept(kind: int) -> None:
    mint, envelopes = CookieMint(IDENTITY.target, counting_entropy()), Envelopes(IDENTITY)
    kept = MAX_KEPT[kind]
    sent = [envelopes.post(PEER, header(sender, kind), b"noise", 0.0)[0] for sender in range(3 * kept)]
    assert len(envelopes._sent) == kept
    for sender, datagram in enumerate(sent):
        reply = decode_cookie_reply(demand(mint, datagram, 0.0, sender))
        if sender >= len(sent) - kept:
            assert envelopes.take_cookie(reply, 0.0)
            continue
        with pytest.raises(Refused) as refused:
            envelopes.take_cookie(reply, 0.0)
        assert refused.value.reason is DropReason.HANDSHAKE_UNEXPECTED
    envelopes.forget(PEER, kind)
    assert not envelopes._sent
    assert not envelopes._order


def test_initiation_and_response_to_a_peer_are_kept_apart() -> None:
    mint, envelopes = CookieMint(IDENTITY.target, counting_entropy()), Envelopes(IDENTITY)
    (response,) = envelopes.post(PEER, header(5, RESPONSE), b"noise", 0.0)
    post(envelopes, 0.0, sender=6)
    envelopes.forget(PEER, INITIATION)
    (again,) = envelopes.take_cookie(decode_cookie_reply(demand(mint, response, 0.0, 5)), 0.0)
    assert again[:-16] == response[:-16]
