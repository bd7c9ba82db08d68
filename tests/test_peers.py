"""One peer over time, deadline by deadline. Whole stories, with two ends and a network, are in test_scenarios.py."""

from __future__ import annotations

import dataclasses

import pytest

from caetun.caller import PATIENT_ATTEMPTS, RESOLVE_ATTEMPTS
from caetun.peers import MISMATCH_PAUSE
from caetun.session.keypair import MAX_RECORDS, KeyPair
from caetun.session.liveness import GREETING_SECONDS, RESPONDER_PATIENCE
from caetun.types import DropReason, Mode
from caetun.way import MAX_PROBES
from caetun.ways import MAX_LEFT, MAX_OFFERED
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
    bench.peer.offer(bench.link, 0, 0.0, bench.out)
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
    assert bench.peer._caller.at is None


def test_silence_is_told_and_names_are_looked_up_again() -> None:
    bench = connected()
    sought: dict[int, int] = {}
    while (made := bench.peer._caller._attempts.made) < PATIENT_ATTEMPTS:
        due = bench.node.next_deadline()
        assert due is not None
        bench.tick(due)
        sought[made] = len(bench.out.seek)
    assert bench.told() == ["peer.silent"]
    assert [sought[RESOLVE_ATTEMPTS - 2], sought[RESOLVE_ATTEMPTS - 1], sought[RESOLVE_ATTEMPTS]] == [0, 1, 2]
    assert bench.out.seek[0] is bench.peer
    assert bench.out.unanswered == [(bench.peer, bench.link)]


def test_a_link_offered_to_a_session_that_has_none_better_does_not_disturb_it() -> None:
    bench = connected()
    bench.shake(1, 0.0, initiator=True)
    bench.out.clear()
    bench.peer.offer(Link("other"), 0, 1.0, bench.out)
    bench.tick(1.0)
    assert bench.peer._caller.at is None
    assert bench.peer.link is bench.link
    assert not bench.out.probes
    assert not bench.out.messages


def test_offering_a_link_again_leaves_the_schedule_alone() -> None:
    bench = connected()
    for now in (5.0, 15.0, 30.0):
        due = bench.peer._caller.at
        bench.out.clear()
        bench.peer.offer(bench.link, 0, now, bench.out)
        assert bench.peer._caller.at == due
        bench.tick(now)
        assert bench.out.messages[0][0] is bench.link
        assert len(bench.out.messages) <= 2


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
    bench.peer._journey.connects = connects
    bench.out.clear()
    bench.node.device_received(batch(), 2.0, bench.out)
    bench.tick(16.9)
    assert bench.out.messages == []
    bench.tick(17.0)
    assert len(bench.out.messages) == connects


def test_a_key_that_others_have_is_told_of_once_a_record() -> None:
    bench = connected()
    far = bench.shake(1, 0.0, initiator=True)
    notice = control.encode(control.Notice(control.KEY_SHARED))
    bench.hear(far, notice * 3 + control.encode(control.Notice(99)), 1.0)
    assert bench.told() == ["peer.up", "peer.doubled"]
    assert bench.node.drops[DropReason.CONTROL_SURPLUS] == 2


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


# several links


def probe(ident: int, size: int = 43) -> bytes:
    return control.encode(control.Probe(ident, size))


def acknowledgement(ident: int, size: int = 43) -> bytes:
    return control.encode(control.ProbeAcknowledgement(ident, size))


def established_bench(ceiling: int | None = None) -> tuple[Bench, KeyPair]:
    """A bench that connects and is connected, by a link of rank 1."""
    bench = Bench(ceiling)
    bench.peer.offer(bench.link, 1, 0.0, bench.out)
    bench.tick(0.0)
    far = bench.shake(1, 0.0, initiator=True)
    bench.hear(far, KEEPALIVE, 0.0)
    bench.tick(0.0)
    bench.out.clear()
    return bench, far


def test_a_probe_is_acknowledged_where_it_came_from_and_moves_nothing() -> None:
    bench = Bench()
    far = bench.shake(1, 0.0, initiator=False)
    bench.hear(far, KEEPALIVE, 0.0)
    bench.out.clear()
    elsewhere = Link("elsewhere")
    for elements in (probe(7), probe(7, 1200) + bytes(1100), acknowledgement(3)):
        bench.hear(far, elements, 1.0, elsewhere)
    assert [link for link, _ in bench.out.records] == [elsewhere, elsewhere, bench.link]  # the last is a report
    assert bench.peer.link is bench.link
    bench.hear(far, KEEPALIVE, 1.1, elsewhere)
    assert bench.peer.link is elsewhere


def test_of_many_probes_in_one_record_one_is_acknowledged() -> None:
    bench = Bench()
    far = bench.shake(1, 0.0, initiator=True)
    bench.said(far)
    bench.hear(far, b"".join(map(probe, range(5900))), 1.0)
    assert bench.said(far) == [acknowledgement(0)]
    assert bench.drops == {DropReason.CONTROL_SURPLUS: 5899}


def test_a_better_link_is_moved_to_once_it_has_answered() -> None:
    bench, far = established_bench()
    better = Link("better")
    bench.peer.offer(better, 0, 1.0, bench.out)
    assert [link for link, _ in bench.out.probes] == [better]
    assert bench.said(far) == [probe(1)]
    assert bench.peer.link is bench.link
    bench.hear(far, acknowledgement(1), 1.1)  # by another link than the probe
    assert bench.peer.link is bench.link
    bench.hear(far, acknowledgement(1), 1.2, better)
    assert bench.peer.link is better
    assert bench.out.records[0][0] is better
    assert bench.said(far)[0] == KEEPALIVE
    assert bench.out.settled == [bench.peer]
    assert bench.told() == ["peer.moved"]
    assert bench.out.unused == []
    bench.tick(3.3)
    assert bench.out.unused == [bench.link]


def test_a_better_datagram_link_must_carry_full_datagrams() -> None:
    bench, far = established_bench()
    bench.peer.offer(Link("better", ceiling=1472), 0, 1.0, bench.out)
    ((_, record),) = bench.out.probes
    assert 16 + len(record.body) == 1200
    assert bench.said(far)[0].startswith(probe(1, 1200))


def test_a_better_link_that_never_answers_is_told_and_left_alone() -> None:
    bench, far = established_bench()
    better = Link("better")
    bench.peer.offer(better, 0, 1.0, bench.out)
    for tenth in range(11, 60):
        bench.tick(tenth / 10)
        bench.hear(far, KEEPALIVE, tenth / 10)
    assert len(bench.out.probes) == MAX_PROBES
    assert bench.out.unanswered == [(bench.peer, better)]
    assert bench.peer.link is bench.link
    bench.out.clear()
    bench.peer.offer(better, 0, 6.0, bench.out)
    assert len(bench.out.probes) == 1


def test_a_link_that_is_no_better_is_a_spare_for_a_moment() -> None:
    bench, _ = established_bench()
    other = Link("other")
    bench.peer.offer(other, 1, 1.0, bench.out)
    assert bench.out.probes == []
    bench.tick(3.1)
    assert bench.out.unused == [other]


def test_silence_after_data_makes_a_link_suspect_within_two_seconds() -> None:
    bench, far = established_bench()
    for tenth in range(50, 70):
        bench.node.device_received(batch(), tenth / 10, bench.out)
        bench.tick(tenth / 10)
        if bench.out.seek:
            break
    assert 6.1 < tenth / 10 <= 6.4
    assert bench.out.seek == [bench.peer]
    assert bench.peer.link is bench.link
    probes = [elements for elements in bench.said(far) if elements.startswith(probe(0)[:5])]
    ident = int.from_bytes(probes[-1][5:9], "big")
    bench.hear(far, acknowledgement(ident), 7.0)
    assert bench.out.settled == [bench.peer]  # it is simply fine again


def test_a_session_outlives_its_link() -> None:
    bench, far = established_bench()
    pair = bench.peer.session.current
    bench.node.link_closed(bench.link, 1.0, bench.out)
    assert bench.peer.link is None
    assert bench.out.seek == [bench.peer]
    bench.node.device_received(batch(), 1.1, bench.out)
    bench.node.close(1.1, bench.out)
    assert bench.out.records == []
    other = Link("other")
    bench.peer.offer(other, 5, 1.2, bench.out)
    bench.tick(1.2)
    assert [link for link, _ in bench.out.messages] == [other]  # for a far end that was started again
    bench.tick(1.4)
    assert bench.said(far) == [probe(1)]
    bench.hear(far, acknowledgement(1), 1.6, other)
    assert bench.peer.link is other
    assert bench.peer.session.current is pair
    assert len(bench.said(far)) == 2  # the greeting, and the frame that has waited
    assert bench.peer._caller.at is None


def test_what_a_hub_is_told_about_a_link_that_is_gone() -> None:
    bench = Bench()
    far = bench.shake(1, 0.0, initiator=False)
    bench.hear(far, KEEPALIVE, 0.0)
    bench.out.clear()
    bench.node.link_closed(bench.link, 1.0, bench.out)
    assert bench.peer.present
    assert bench.out.seek == []
    assert bench.node.next_deadline() == 30.0
    other = Link("other")
    bench.hear(far, KEEPALIVE, 5.0, other)
    assert bench.peer.link is other


def test_alternating_sources_keep_what_was_learned_and_do_not_fill_the_log() -> None:
    bench = Bench(ceiling=1472)
    far = bench.shake(1, 0.0, initiator=True)
    bench.tick(0.0)
    bench.hear(far, acknowledgement(1, 1472), 0.1)
    one, other = bench.link, Link("other", ceiling=1472)
    paths = {one: bench.peer.path}
    moves = 0
    bench.out.clear()
    for turn in range(2000):
        now = 1.0 + turn / 100
        before = bench.peer.link
        bench.hear(far, KEEPALIVE, now, (one, other)[turn % 2])
        bench.tick(now)
        if bench.peer.link is not before:
            moves += 1
            assert bench.peer.link in (one, other)
            assert paths.setdefault(bench.peer.link, bench.peer.path) is bench.peer.path
    assert 10 <= moves <= 60
    assert bench.told().count("peer.moved") <= 21
    assert bench.out.unused == []
    assert len(bench.peer._ways) == 2


def test_more_sources_than_there_is_room_for() -> None:
    bench = Bench()
    far = bench.shake(1, 0.0, initiator=True)
    links = [Link(f"link {number}") for number in range(1000)]
    for number, link in enumerate(links):
        bench.hear(far, KEEPALIVE, 1.0 + number / 1e4, link)
    assert len(bench.peer._ways) <= 1 + MAX_LEFT
    assert bench.peer.link is links[-1]
    assert set(bench.out.unused) < {bench.link, *links}


def test_more_offers_than_there_is_room_for() -> None:
    bench = Bench()
    links = [Link(f"link {number}") for number in range(100)]
    for link in links:
        bench.peer.offer(link, 0, 0.0, bench.out)
    assert len(bench.peer._ways) == MAX_OFFERED
    assert bench.out.unused == links[:-MAX_OFFERED]


def test_a_refused_data_datagram_shortens_the_size_at_once() -> None:
    bench = Bench(ceiling=1472)
    far = bench.shake(1, 0.0, initiator=True)
    bench.tick(0.0)
    bench.hear(far, acknowledgement(1, 1472), 0.1)
    assert bench.peer.path is not None
    bench.node.too_big(bench.link, 1472, 5.0, bench.out)
    assert bench.peer.path.size == 1200


def test_after_a_change_of_network_the_far_end_is_told_at_once() -> None:
    bench, far = established_bench()
    bench.node.network_changed(1.0, bench.out)
    assert sorted(bench.said(far)) == [KEEPALIVE, probe(1)]
    bench.tick(2.0)
    assert bench.out.seek == [bench.peer]


def test_what_the_network_said_is_passed_on() -> None:
    bench = Bench()
    bench.link.refusal = "connection refused"  # type: ignore[attr-defined]
    bench.peer.offer(bench.link, 0, 0.0, bench.out)
    while not (told := [event for event in bench.out.events if event.event == "peer.silent"]):
        bench.tick(bench.node.next_deadline() or 0.0)
    for word in ("connection refused", "--cipher", "--post-quantum"):
        assert word in told[0].text
