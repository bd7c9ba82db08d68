"""Two nodes with certificates shake hands: agreement, loss, repeats, strangers, floods, and who is refused."""

from __future__ import annotations

import datetime
import itertools
import os
import random
from pathlib import Path

import pytest

from caetun.errors import ConfigurationError
from caetun.security import openssl, tlslite
from caetun.session.admission import LOAD_HANDSHAKES
from caetun.session.engine import peer_id
from caetun.session.handshake import Cipher, Policy, PostQuantum
from caetun.session.pending import ATTEMPT_SECONDS, MAX_ATTEMPTS
from caetun.session.serving import MAX_SERVED, MAX_SERVED_PER_HOST
from caetun.session.tls import MAX_REPEATS
from caetun.types import DropReason, Mode
from caetun.wire import tls
from tests.security.authority import NOW, WALL, Node, authority, deliver
from tests.session.pair import agree, flipped

HYBRID = Policy(post_quantum=PostQuantum.REQUIRE)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pki")
    authority(path, "hub", "alice", "mallory")
    return path


@pytest.fixture
def pair(pki: Path) -> tuple[Node, Node]:
    return Node(pki, "alice", ["hub"]), Node(pki, "hub", ["alice"])


def test_two_nodes_agree_in_two_exchanges(pair: tuple[Node, Node]) -> None:
    alice, hub = pair
    assert deliver(alice, hub, alice.call("hub")) == 2
    (a,), (b,) = alice.established, hub.established
    assert agree(a, b)
    assert (a.peer, b.peer, a.initiator) == (peer_id("hub"), peer_id("alice"), True)
    assert (a.hello.mode, b.hello.mtu, a.hello.mtu) == (Mode.TAP, 9000, 1500)
    assert (len(a.send_key), len(a.receive_key), a.send_key == a.receive_key) == (32, 32, False)
    assert a.hello.incarnation != 0
    assert hub.trust.names_of(b.certificate) == ("alice",)
    assert not alice.drops + hub.drops


@pytest.mark.parametrize("cipher", Cipher)
def test_the_caller_chooses_the_cipher_and_ml_kem_is_added(pki: Path, cipher: Cipher) -> None:
    alice, hub = Node(pki, "alice", ["hub"], policy=HYBRID), Node(pki, "hub", ["alice"], policy=HYBRID)
    deliver(alice, hub, alice.handshakes.initiate(peer_id("hub"), 0.0, WALL, cipher))
    assert agree(alice.established[0], hub.established[0])
    assert (hub.established[0].cipher, hub.established[0].post_quantum) == (cipher, True)


@pytest.mark.parametrize("libraries", [(tlslite, openssl), (openssl, tlslite), (tlslite, tlslite)])
def test_libraries_go_together(pki: Path, libraries: tuple[object, object]) -> None:
    first, second = libraries
    alice = Node(pki, "alice", ["hub"], library=first.Library)  # type: ignore[attr-defined]
    hub = Node(pki, "hub", ["alice"], library=second.Library)  # type: ignore[attr-defined]
    deliver(alice, hub, alice.call("hub"))
    assert agree(alice.established[0], hub.established[0])


def test_every_handshake_has_keys_of_its_own(pair: tuple[Node, Node]) -> None:
    alice, hub = pair
    for now in (0.0, 1.0):
        deliver(alice, hub, alice.call("hub", now), now)
    first, second = alice.established
    assert len({first.send_key, first.receive_key, second.send_key, second.receive_key}) == 4


def test_both_call_at_once(pair: tuple[Node, Node]) -> None:
    alice, hub = pair
    one, other = alice.call("hub"), hub.call("alice")
    deliver(alice, hub, one)
    deliver(hub, alice, other)
    assert len(alice.established) == len(hub.established) == 2
    assert agree(alice.established[0], hub.established[0])
    assert agree(alice.established[1], hub.established[1])


# loss


@pytest.mark.parametrize("lost", range(4))
def test_a_lost_flight_is_made_up_for(pair: tuple[Node, Node], lost: int) -> None:
    alice, hub = pair
    flight, sent, now = alice.call("hub"), 0, 0.0
    for _ in range(10):
        here, there = (alice, hub) if sent % 2 == 0 else (hub, alice)
        if sent == lost:
            flight, sent, now = [], -1, now + 0.2
        elif flight:
            flight, sent = there.hear(flight, here.address, now), sent + 1
        if not flight:
            if alice.established:
                break
            flight, sent, lost = alice.call("hub", now), 0, -1
    assert agree(alice.established[0], hub.established[0])
    assert (len(alice.established), len(hub.established)) == (1, 1)


def test_a_lost_piece_is_made_up_for_by_the_repeat(pair: tuple[Node, Node]) -> None:
    alice, hub = pair
    last = alice.hear(hub.hear(alice.call("hub"), "a 1"), "h 1")
    assert len(last) > 1
    assert hub.hear(last[:-1], "a 1") == []
    again = alice.call("hub", 0.2)
    assert [piece[:12] for piece in again] == [piece[:12] for piece in last]
    alice.hear(hub.hear(again, "a 1", 0.2), "h 1", 0.2)
    assert agree(alice.established[0], hub.established[0])


def test_repeated_flights_cost_no_work_and_lead_to_no_second_session(pair: tuple[Node, Node]) -> None:
    alice, hub = pair
    opening = alice.call("hub")
    answer = hub.hear(opening, "a 1")
    assert hub.hear(opening, "b 2") == answer
    last = alice.hear(answer, "h 1")
    final = hub.hear(last, "a 1")
    assert hub.hear(last, "c 3") == final
    alice.hear(final + final, "h 1")
    assert (len(alice.established), len(hub.established)) == (1, 1)
    assert hub.hear(opening, "a 1") == []  # the answer to it is not of use any more


def test_after_some_repeats_a_new_attempt_is_begun_and_old_ones_stay_open(pair: tuple[Node, Node]) -> None:
    alice, hub = pair
    calls = [alice.call("hub", number * 0.1) for number in range(MAX_REPEATS + 2)]
    assert len({call[0][4:8] for call in calls}) == 2
    deliver(alice, hub, calls[0], 1.0)
    assert agree(alice.established[0], hub.established[0])


def test_attempts_are_bounded_and_end(pair: tuple[Node, Node]) -> None:
    alice, hub = pair
    first = alice.call("hub")
    for number in range(100):
        alice.call("hub", 30.0 * (1 + number))
    assert len(alice.handshakes._attempts) == MAX_ATTEMPTS
    assert alice.hear(hub.hear(first, "a 1"), "h 1", ATTEMPT_SECONDS) == []
    assert alice.drops == {DropReason.HANDSHAKE_UNEXPECTED: 2}
    alice.handshakes.abandon(peer_id("hub"))
    assert not alice.handshakes._attempts


# strangers and floods


def test_who_does_not_know_the_authority_gets_no_answer(pair: tuple[Node, Node], tmp_path: Path) -> None:
    authority(tmp_path, "alice")
    stranger = Node(tmp_path, "alice", ["hub"])
    assert pair[1].hear(stranger.call("hub"), "x 1") == []
    assert pair[1].drops == {DropReason.HANDSHAKE_MAC: 1}


def test_with_a_pre_shared_key_the_authority_is_not_enough(pki: Path) -> None:
    secret = bytes(range(32))
    hub = Node(pki, "hub", ["alice"], psk=secret)
    assert hub.hear(Node(pki, "alice", ["hub"]).call("hub"), "x 1") == []
    alice = Node(pki, "alice", ["hub"], psk=secret)
    deliver(alice, hub, alice.call("hub"))
    assert agree(alice.established[0], hub.established[0])


def test_an_authority_can_be_changed_step_by_step(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    authority(old, "alice")
    authority(new, "hub")
    cas = [old / "ca.crt", new / "ca.crt"]
    alice, hub = Node(old, "alice", ["hub"], cas=cas), Node(new, "hub", ["alice"], cas=cas[::-1])
    deliver(alice, hub, alice.call("hub"))
    assert agree(alice.established[0], hub.established[0])


def test_under_load_a_caller_shows_that_it_receives(pair: tuple[Node, Node]) -> None:
    alice, hub = pair
    for number in range(LOAD_HANDSHAKES + 1):
        hub.handshakes._gates[0].charge(f"198.51.100.{number} 1", 0.0)
    opening = alice.call("hub")
    (cookie,) = hub.hear(opening, alice.address)
    assert (cookie[0], len(cookie), hub.drops) == (3, 64, {DropReason.HANDSHAKE_COOKIE: 1})
    assert len(hub.handshakes._serving) == 0
    deliver(alice, hub, alice.hear([cookie], hub.address))
    assert agree(alice.established[0], hub.established[0])


def test_answers_to_the_unproven_are_short(pki: Path) -> None:
    hub, alice = Node(pki, "hub", ["alice"]), Node(pki, "alice", ["hub"])
    opening = alice.call("hub")
    assert sum(map(len, hub.hear(opening, "a 1"))) <= 3 * sum(map(len, opening))
    hub.handshakes._long = True  # as with a chain of large certificates
    again = Node(pki, "alice", ["hub"])
    (cookie,) = hub.hear(again.call("hub"), "a 1")
    assert cookie[0] == 3


def test_the_table_of_those_being_answered_is_bounded(pki: Path) -> None:
    hub = Node(pki, "hub", ["alice"])
    callers = [Node(pki, "alice", ["hub"]) for _ in range(MAX_SERVED_PER_HOST + 2)]
    for caller in callers:
        hub.hear(caller.call("hub"), "192.0.2.1 7")
    assert len(hub.handshakes._serving) == MAX_SERVED_PER_HOST
    for number in range(MAX_SERVED):
        caller = Node(pki, "alice", ["hub"])
        hub.handshakes.receive(caller.call("hub")[0], f"2001:db8:{number:x}::1 7", 1.0 + number, WALL)
    assert len(hub.handshakes._serving) <= MAX_SERVED
    hub.hear(Node(pki, "alice", ["hub"]).call("hub"), "192.0.2.9 7", 1000.0)
    assert len(hub.handshakes._serving) == 1
    assert len(hub.handshakes._serving._openings) == 1


def test_an_initiation_that_comes_back_is_known(pair: tuple[Node, Node]) -> None:
    alice, _ = pair
    assert alice.hear(alice.call("hub"), "m 1") == []
    assert alice.drops == {DropReason.HANDSHAKE_REFLECTED: 1}


def test_a_flipped_bit_makes_no_session_and_no_exception(pair: tuple[Node, Node]) -> None:
    alice, hub = pair
    (opening,) = alice.call("hub")
    for at in (0, 3, 5, 12, 60, 1170):
        assert hub.hear([flipped(opening, at)], "m 1") == []
    assert not hub.established
    deliver(alice, hub, [opening])
    assert agree(alice.established[0], hub.established[0])


def test_answers_that_nobody_waits_for(pair: tuple[Node, Node]) -> None:
    alice, hub = pair
    answer = hub.hear(alice.call("hub"), "a 1")
    alice.handshakes.abandon(peer_id("hub"))
    assert alice.hear(answer, "h 1") == []
    assert set(alice.drops) == {DropReason.HANDSHAKE_UNEXPECTED}


@pytest.mark.parametrize(
    ("libraries", "times"), [((openssl, openssl), 40), ((tlslite, openssl), 8), ((openssl, tlslite), 8)]
)
def test_damaged_flights(
    pki: Path, monkeypatch: pytest.MonkeyPatch, libraries: tuple[object, object], times: int
) -> None:
    """Bits, runs and ends of one flight are others: no session between them, no exception, and the next one works."""
    rng, whole = random.Random(7), tls.encode_flight
    for number in range(times):
        alice = Node(pki, "alice", ["hub"], library=libraries[0].Library)  # type: ignore[attr-defined]
        hub = Node(pki, "hub", ["alice"], library=libraries[1].Library)  # type: ignore[attr-defined]
        flights = itertools.count()

        def damaged(records: bytes, *, first: bool, hit: int = number % 4, flights: itertools.count = flights) -> bytes:  # type: ignore[type-arg]
            if next(flights) != hit:
                return whole(records, first=first)
            at, some = rng.randrange(len(records)), rng.randbytes(20)
            ways = [
                flipped(records, at),
                records[:at] or b"x",
                records + some,
                records[:at] + some + records[at + 20 :],
            ]
            return whole(rng.choice(ways), first=first)

        monkeypatch.setattr(tls, "encode_flight", damaged)
        deliver(alice, hub, alice.call("hub"))
        monkeypatch.setattr(tls, "encode_flight", whole)
        assert not alice.established or not hub.established or agree(alice.established[0], hub.established[0])
        alice.handshakes.abandon(peer_id("hub"))
        alice.established.clear()
        deliver(alice, hub, alice.call("hub", 1.0), 1.0)
        assert agree(alice.established[0], hub.established[-1])


# who is refused


def test_a_stranger_with_a_good_certificate_hears_that_he_is_not_known(pki: Path) -> None:
    mallory, hub = Node(pki, "mallory", ["hub"]), Node(pki, "hub", ["alice"])
    deliver(mallory, hub, mallory.call("hub"))
    assert not mallory.established + hub.established
    assert (hub.refusals[0].why, hub.refusals[0].theirs) == ("no peer here is called mallory", False)
    assert (mallory.refusals[0].why, mallory.refusals[0].theirs) == ("no peer here is called mallory", True)
    assert mallory.refusals[0].peer == peer_id("hub")


def test_a_hub_of_another_name_is_refused_before_it_gets_keys(pki: Path) -> None:
    alice, mallory = Node(pki, "alice", ["hub"]), Node(pki, "mallory", ["alice"])
    deliver(alice, mallory, alice.call("hub"))
    assert not alice.established + mallory.established
    assert alice.refusals[0].why == "its certificate is that of mallory, not of hub"
    assert (alice.drops, mallory.drops) == ({DropReason.HANDSHAKE_CERTIFICATE: 1},) * 2
    assert (mallory.refusals[0].why, mallory.refusals[0].theirs) == (alice.refusals[0].why, True)


@pytest.mark.parametrize("library", [openssl, tlslite], ids=["openssl", "tlslite"])
def test_an_expired_certificate(tmp_path: Path, library: object) -> None:
    made = authority(tmp_path, "alice", at=NOW - datetime.timedelta(days=40), days=10)
    made.issue("hub", 400)
    hub = Node(tmp_path, "hub", ["alice"], library=library.Library)  # type: ignore[attr-defined]
    alice = Node(tmp_path, "alice", ["hub"])
    deliver(alice, hub, alice.call("hub"))
    assert hub.refusals[0].why.startswith("its certificate has expired")
    assert alice.refusals[0].theirs
    assert alice.refusals[0].why.startswith("its certificate has expired")
    assert not alice.established + hub.established


def test_a_revoked_certificate(tmp_path: Path) -> None:
    made = authority(tmp_path, "hub", "alice", "bob")
    made.revoke("alice")
    hub = Node(tmp_path, "hub", ["alice", "bob"], crl=tmp_path / "crl.pem")
    alice, bob = Node(tmp_path, "alice", ["hub"]), Node(tmp_path, "bob", ["hub"])
    deliver(alice, hub, alice.call("hub"))
    deliver(bob, hub, bob.call("hub"))
    assert [refusal.why for refusal in hub.refusals + alice.refusals] == ["its certificate is revoked"] * 2
    assert agree(bob.established[0], hub.established[0])


def test_what_is_wrong_with_the_settings(pki: Path) -> None:
    alice = Node(pki, "alice", ["hub"])
    with pytest.raises(ConfigurationError, match="no peer has this name"):
        alice.call("bob")
    only = Node(pki, "alice", ["hub"], policy=Policy((Cipher.AES_GCM,)))
    with pytest.raises(ConfigurationError, match="is not allowed here"):
        only.handshakes.initiate(peer_id("hub"), 0.0, WALL, Cipher.CHACHA20_POLY1305)


def test_guests_come_only_where_they_may(pki: Path) -> None:
    hub, mallory = Node(pki, "hub", []), Node(pki, "mallory", ["hub"])
    hub.identity.stranger = lambda key: key == peer_id("mallory")
    deliver(mallory, hub, mallory.call("hub"))
    assert hub.established[0].peer == peer_id("mallory")
    alice = Node(pki, "alice", ["hub"])
    deliver(alice, hub, alice.call("hub"))
    assert alice.refusals[0].why == "no peer here is called alice"


def test_random_bytes_after_a_right_code(pair: tuple[Node, Node]) -> None:
    """Whoever knows the authority can send anything: it is counted, and nothing else."""
    alice, hub = pair
    for number in range(50):
        attempt = Node.call(alice, "hub", number * 30.0)
        index = next(reversed(alice.handshakes._attempts))
        alice.handshakes._attempts[index].flight = b"\x04\x80" + os.urandom(1154)
        assert attempt
        hub.hear(alice.call("hub", number * 30.0), "a 1", number * 30.0)
    assert set(hub.drops) <= {DropReason.HANDSHAKE_TLS, DropReason.HANDSHAKE_MALFORMED}
    assert not hub.established
