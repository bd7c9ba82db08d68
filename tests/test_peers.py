"""One peer over time, deadline by deadline. Whole stories, with two ends and a network, are in test_scenarios.py."""

from __future__ import annotations

import dataclasses

import pytest

from caetun.peers import MISMATCH_PAUSE, PATIENT_ATTEMPTS, RESOLVE_ATTEMPTS
from caetun.session.keypair import MAX_RECORDS
from caetun.session.liveness import GREETING_SECONDS, RESPONDER_PATIENCE
from caetun.types import DropReason, Mode
from caetun.wire import control
from caetun.wire.container import Batch
from tests.bench import Bench, Link
from tests.session.established import HELLO, PEER
from tests.simulator import frame

KEEPALIVE = b""
CLOSE = control.encode(control.Close(control.SHUTTING_DOWN))


def batch() -> Batch:
    one = Batch()
    one.append(frame(1))
    return one


def connected() -> Bench:
    """A bench that connects, and sent its first initiation."""
    bench = Bench()
    bench.peer.connect([bench.link], 0.0)
    bench.tick(0.0)
    return bench


# finding the far end


def test_initiations_go_out_until_keys_are_there() -> None:
    bench = connected()
    assert bench.out.messages == [(bench.link, [b"initiation aes-gcm"])]
    due = bench.node.next_deadline()
    assert due is not None
    bench.tick(due)
    assert len(bench.out.messages) == 2
    bench.shake(1, 0.2, initiator=True)
    assert bench.told() == ["peer.up"]
    assert bench.peer._attempts.at is None


def test_silence_is_told_and_names_are_looked_up_again() -> None:
    bench = connected()
    resolved = []
    for _ in range(2 * PATIENT_ATTEMPTS - 1):
        due = bench.node.next_deadline()
        assert due is not None
        bench.tick(due)
        resolved.append(len(bench.out.resolve))
    assert bench.told() == ["peer.silent"]
    assert resolved[RESOLVE_ATTEMPTS - 3 : RESOLVE_ATTEMPTS] == [0, 1, 2]
    assert bench.out.resolve[0] is bench.peer


def test_without_links_there_is_nothing_to_try() -> None:
    bench = Bench()
    bench.peer.connect([], 0.0)
    bench.tick(0.0)
    assert bench.out.messages == []
    assert bench.node.next_deadline() is None


def test_other_links_do_not_disturb_a_session() -> None:
    bench = connected()
    bench.shake(1, 0.0, initiator=True)
    bench.peer.connect([Link("other")], 1.0)
    assert bench.peer._attempts.at is None
    assert bench.peer.link is bench.link


# the first record


def test_an_initiator_speaks_first_and_repeats_it_until_it_is_heard() -> None:
    bench = Bench()
    bench.tick(10.0)
    far = bench.shake(1, 10.0, initiator=True)
    assert bench.said(far) == [KEEPALIVE]
    for after in (1, 2, 4):
        due = bench.node.next_deadline()
        assert due == pytest.approx(10.0 + after * GREETING_SECONDS)
        bench.tick(due or 0.0)
        assert bench.said(far) == [KEEPALIVE]
    bench.hear(far, KEEPALIVE, 12.0)
    bench.tick(10.0 + 8 * GREETING_SECONDS + 0.01)
    assert bench.said(far) == []


def test_a_responder_speaks_once_it_is_spoken_to() -> None:
    bench = Bench()
    far = bench.shake(1, 10.0, initiator=False)
    bench.node.device_received(batch(), 10.0, bench.out)
    assert bench.drops == {DropReason.NO_SESSION: 1}
    assert bench.out.records == []
    bench.hear(far, KEEPALIVE, 11.0)
    assert bench.told() == ["peer.up"]
    assert bench.said(far) == [KEEPALIVE]


# deadlines


def test_what_an_initiator_does_in_its_time() -> None:
    bench = connected()
    far = bench.shake(1, 0.0, initiator=True)
    bench.hear(far, KEEPALIVE, 0.0)
    bench.out.clear()
    for now in range(10, 120, 10):
        assert bench.node.next_deadline() == now
        bench.tick(float(now))
        assert bench.said(far) == [KEEPALIVE]
        bench.hear(far, KEEPALIVE, float(now))
        bench.out.records.clear()
    assert bench.out.messages == []
    assert bench.node.next_deadline() == 120.0
    bench.tick(120.0)
    assert [link for link, _ in bench.out.messages] == [bench.link]


def test_a_responder_has_more_patience() -> None:
    bench = Bench()
    far = bench.shake(1, 0.0, initiator=False)
    for now in range(0, 165, 5):
        bench.hear(far, KEEPALIVE, float(now))
        bench.tick(float(now))
    assert bench.out.messages == [(bench.link, [b"reply"])]
    bench.tick(120.0 * RESPONDER_PATIENCE)
    assert len(bench.out.messages) == 2


def test_worn_keys_are_replaced_whatever_their_age() -> None:
    bench = connected()
    bench.shake(1, 0.0, initiator=True)
    bench.out.clear()
    assert bench.peer.session.current is not None
    bench.peer.session.current.sent = MAX_RECORDS
    bench.node.device_received(batch(), 5.0, bench.out)
    due = bench.node.next_deadline()
    assert due is not None
    assert due <= 6.0
    bench.tick(5.0)
    assert len(bench.out.messages) == 1


@pytest.mark.parametrize("connects", [True, False])
def test_unanswered_data_makes_the_connecting_side_shake_hands_again(connects: bool) -> None:
    bench = Bench()
    far = bench.shake(1, 0.0, initiator=True)
    bench.hear(far, KEEPALIVE, 1.0)
    bench.peer.connects = connects
    bench.out.clear()
    bench.node.device_received(batch(), 2.0, bench.out)
    bench.tick(16.9)
    assert bench.out.messages == []
    bench.tick(17.0)
    assert len(bench.out.messages) == connects


def test_a_far_end_that_is_silent_for_long_is_gone() -> None:
    bench = Bench()
    far = bench.shake(1, 0.0, initiator=True)
    bench.hear(far, KEEPALIVE, 7.0)
    bench.tick(36.9)
    assert bench.peer.present
    bench.tick(37.0)
    assert not bench.peer.present
    assert bench.told() == ["peer.up", "peer.down"]
    assert bench.node.sessions == {}
    assert bench.node.next_deadline() is None


# the end of keys


def test_nothing_is_sealed_with_keys_that_are_too_old_even_if_the_tick_is_late() -> None:
    bench = connected()
    far = bench.shake(1, 0.0, initiator=True)
    bench.hear(far, KEEPALIVE, 179.9)
    bench.said(far)
    bench.node.device_received(batch(), 179.9, bench.out)
    assert len(bench.said(far)) == 1
    bench.node.device_received(batch(), 180.0, bench.out)
    bench.node.close(180.0, bench.out)
    assert bench.said(far) == []
    bench.shake(2, 180.1, initiator=True)
    assert len(bench.out.records) == 1  # the frame waited for new keys


def test_nothing_is_opened_with_keys_that_are_too_old() -> None:
    bench = Bench()
    far = bench.shake(1, 0.0, initiator=True)
    bench.hear(far, KEEPALIVE, 180.1)
    assert bench.drops == {DropReason.RECORD_EXPIRED_KEY: 1}


def test_close_ends_the_session_it_was_sent_in_and_no_other() -> None:
    bench = Bench()
    former = bench.shake(1, 0.0, initiator=True)
    current = bench.shake(2, 5.0, initiator=True)
    bench.hear(former, CLOSE, 5.1)
    assert bench.peer.present
    bench.hear(current, CLOSE, 5.2)
    assert not bench.peer.present
    assert bench.node.sessions == {}


def test_close_is_told() -> None:
    bench = Bench()
    far = bench.shake(1, 0.0, initiator=True)
    bench.said(far)
    bench.node.close(1.0, bench.out)
    assert bench.said(far) == [CLOSE]


# settings that differ


def test_another_mode_is_told_once_and_tried_rarely() -> None:
    bench = connected()
    other = dataclasses.replace(HELLO, mode=Mode.TUN)
    for number in range(3):
        bench.shake(number, 1.0, initiator=True, hello=other)
        assert not bench.peer.present
        assert bench.node.sessions == {}
    assert bench.told() == ["peer.mismatch"]
    assert bench.node.next_deadline() == 1.0 + MISMATCH_PAUSE
    bench.shake(4, 2.0, initiator=True)
    assert bench.told() == ["peer.up"]
    bench.shake(5, 3.0, initiator=False, hello=other)
    assert bench.told() == ["peer.mismatch"]


def test_who_only_listens_tries_nothing_after_a_mismatch() -> None:
    bench = Bench()
    bench.shake(1, 1.0, initiator=False, hello=dataclasses.replace(HELLO, mode=Mode.TUN))
    assert bench.told() == ["peer.mismatch"]
    assert bench.node.next_deadline() is None


def test_another_mtu_is_told_once_as_long_as_it_stays() -> None:
    bench = Bench()
    told = []
    for number, mtu in enumerate((1500, 1400, 1400, 1300, 1500, 1400)):
        bench.shake(number, 0.0, initiator=True, hello=dataclasses.replace(HELLO, mtu=mtu))
        told += [event.text for event in bench.out.events if event.event == "peer.mtu"]
        bench.out.clear()
    assert len(told) == 3
    for text, theirs in zip(told, ("1400", "1300", "1400"), strict=True):
        assert theirs in text
        assert "1500" in text


# the path


def test_a_probe_is_answered_with_its_number_and_size() -> None:
    bench = Bench()
    far = bench.shake(1, 0.0, initiator=True)
    bench.said(far)
    bench.hear(far, control.encode(control.Probe(77, 1300)) + bytes(500), 1.0)
    assert bench.said(far) == [control.encode(control.ProbeAcknowledgement(77, 1300))]


def test_a_probe_is_padded_to_the_size_it_asks_about() -> None:
    bench = Bench(ceiling=1472)
    far = bench.shake(1, 0.0, initiator=True)
    assert bench.link.datagram == 1200
    bench.said(far)
    bench.tick(0.0)
    ((link, probe),) = bench.out.probes
    assert link is bench.link
    assert 16 + len(probe.body) == 1472
    bench.hear(far, control.encode(control.ProbeAcknowledgement(1, 1472)), 0.1)
    assert bench.link.datagram == 1472
    assert bench.told() == ["peer.up", "path.mtu"]


@pytest.mark.parametrize(("ident", "size"), [(1, 1400), (1, 9000), (0, 1472)])
def test_acknowledgements_of_what_was_not_asked_change_nothing(ident: int, size: int) -> None:
    bench = Bench(ceiling=1472)
    far = bench.shake(1, 0.0, initiator=True)
    bench.tick(0.0)
    bench.hear(far, control.encode(control.ProbeAcknowledgement(ident, size)), 0.1)
    assert bench.link.datagram == 1200


def test_a_path_that_does_not_carry_the_least_is_a_warning() -> None:
    bench = Bench(ceiling=1472)
    far = bench.shake(1, 0.0, initiator=True)
    for tenth in range(100):
        bench.hear(far, KEEPALIVE, tenth / 10)
        bench.tick(tenth / 10)
    assert [event.level for event in bench.out.events if event.event == "path.mtu"] == ["warning"]


def test_the_newest_record_decides_where_to_send() -> None:
    bench = Bench(ceiling=1472)
    far = bench.shake(1, 0.0, initiator=True)
    older, newest = far.seal(b""), far.seal(b"")
    elsewhere = Link("elsewhere", ceiling=9000)
    bench.node.records_received(bench.link, [newest], 1.0, bench.out)
    bench.node.records_received(elsewhere, [older], 1.0, bench.out)
    assert bench.peer.link is bench.link
    bench.hear(far, KEEPALIVE, 2.0, elsewhere)
    assert bench.peer.link is elsewhere
    assert elsewhere.datagram == 1200
    assert bench.told()[-1] == "peer.moved"
    assert bench.peer.ident == PEER
