"""Neighbours: what is learned of them, and who answers for them, in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.l2 import neighbours as module
from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.loop import LoopProbes
from caetun.l2.neighbours import AGEING, DOUBT_SECONDS, FIGHT_SECONDS, FRESH_SECONDS, REPEAT_SECONDS, Suppression
from caetun.l2.outcome import Notice
from caetun.l2.vlan import access, trunk
from caetun.types import Drops
from caetun.wire import arp, nd
from caetun.wire.ip import outline
from tests.l2.frames import ipv4, ipv6, mac
from tests.l2.hosts import advertises, announces, answers, request, sends, solicits

HUB, ATTIC, OFFICE = 0, 1, 2


class Place:
    """A switch of three ports."""

    def __init__(self, suppression: Suppression, *ports: PortSettings) -> None:
        self.switch = Bridge(Drops(), LoopProbes(bytes(32), mac(0xFFFFFF)), suppression=suppression)
        for number, settings in enumerate(ports or [PortSettings(name) for name in ("hub", "attic", "office")]):
            self.switch.add_port(number, settings, 0.0)
        self.now = 1.0

    def goes(self, port: int, frame: bytes, wait: float = 0.01) -> set[int]:
        self.now += wait
        return set(self.switch.forward(port, frame, self.now).ports)

    def said(self) -> list[tuple[int, int, bytes]]:
        """What the switch says, probes for loops aside: (port, VLAN, frame)."""
        said, _ = self.switch.tick(self.now)
        return [tuple(each) for each in said if each.frame[12:14] != b"\x88\xb5"]


def direct(*ports: PortSettings) -> Place:
    return Place(Suppression.DIRECT, *ports)


def answering(*ports: PortSettings) -> Place:
    return Place(Suppression.ANSWER, *ports)


class TestOff:
    def test_it_is_off_by_default(self) -> None:
        switch = Bridge(Drops(), LoopProbes(bytes(32), mac(1)))
        assert switch.neighbours.suppression is Suppression.OFF

    def test_questions_are_flooded_and_the_table_kept(self) -> None:
        place = Place(Suppression.OFF)
        place.goes(ATTIC, announces(1))
        assert place.goes(OFFICE, request(2, 1)) == {HUB, ATTIC}
        assert [host.address for host in place.switch.neighbours.hosts(ATTIC)] == [ipv4(1)]
        assert [host.address for host in place.switch.neighbours.hosts(OFFICE)] == [ipv4(2)]


class TestDirect:
    def test_a_question_goes_to_who_can_answer_it(self) -> None:
        place = direct()
        assert place.goes(OFFICE, request(2, 1)) == {HUB, ATTIC}, "nobody knows yet"
        assert place.goes(ATTIC, answers(1, 2)) == {OFFICE}
        assert place.goes(HUB, request(3, 1)) == {ATTIC}
        assert place.goes(HUB, request(3, 2)) == {OFFICE}, "who asked is known too"

    def test_for_ipv6_as_well(self) -> None:
        place = direct()
        assert place.goes(OFFICE, solicits(2, 1)) == {HUB, ATTIC}
        assert place.goes(ATTIC, advertises(1, 2)) == {OFFICE}
        assert place.goes(HUB, solicits(3, 1)) == {ATTIC}
        assert place.goes(HUB, solicits(3, 2)) == {OFFICE}

    def test_a_question_that_comes_again_was_not_answered(self) -> None:
        place = direct()
        place.goes(ATTIC, announces(1))
        assert place.goes(OFFICE, request(2, 1)) == {ATTIC}
        assert place.goes(OFFICE, request(2, 1), 1.0) == {HUB, ATTIC}
        assert place.goes(HUB, request(3, 1)) == {ATTIC}, "that is another's question"
        assert place.goes(OFFICE, request(2, 1), REPEAT_SECONDS) == {ATTIC}

    def test_a_neighbour_ages(self) -> None:
        place = direct()
        place.goes(ATTIC, announces(1))
        place.goes(ATTIC, sends(1, 3), AGEING - 1)
        assert place.goes(OFFICE, request(2, 1), 2.0) == {HUB, ATTIC}
        place.said()
        assert [host.address for host in place.switch.neighbours.hosts(ATTIC)] == []

    def test_a_host_that_is_elsewhere_by_now_is_looked_for(self) -> None:
        place = direct()
        place.goes(ATTIC, announces(1))
        place.goes(HUB, sends(1, 3))
        assert place.goes(OFFICE, request(2, 1)) == {HUB, ATTIC}
        place.goes(HUB, announces(1))
        assert place.goes(OFFICE, request(3, 1)) == {HUB}

    def test_behind_the_same_port_they_settle_it_themselves(self) -> None:
        place = direct()
        place.goes(ATTIC, announces(1))
        assert place.goes(ATTIC, request(2, 1)) == {HUB, OFFICE}

    def test_announcements_reach_all(self) -> None:
        place = direct()
        place.goes(ATTIC, announces(1))
        assert place.goes(ATTIC, announces(1)) == {HUB, OFFICE}
        assert place.goes(ATTIC, announces(1, ipv6(1))) == {HUB, OFFICE}

    def test_isolated_hosts_stay_out_of_reach(self) -> None:
        place = direct(PortSettings("a", isolated=True), PortSettings("b", isolated=True), PortSettings("c"))
        place.goes(0, announces(1))
        assert place.goes(1, request(2, 1)) == {2}

    def test_who_speaks_for_another_is_not_where_that_one_is(self) -> None:
        place = direct()
        frame = announces(1)
        place.goes(ATTIC, frame[:6] + mac(7) + frame[12:])
        assert len(place.switch.neighbours) == 0

    def test_vlans_are_networks_of_their_own(self) -> None:
        place = direct(
            PortSettings("7", vlans=access(7)), PortSettings("8", vlans=access(8)), PortSettings("t", vlans=trunk(None))
        )
        place.goes(0, announces(1))
        tag = b"\x81\0\0"
        asks = request(2, 1)
        assert place.goes(2, asks[:12] + tag + b"\7" + asks[12:]) == {0}
        assert place.switch.neighbours._questions
        place.switch.neighbours._questions.clear()
        assert place.goes(2, asks[:12] + tag + b"\x08" + asks[12:]) == {1}
        assert not place.switch.neighbours._questions, "that was the only other port of VLAN 8"

    def test_tags_that_the_switch_does_not_know_are_other_networks(self) -> None:
        place = direct()
        frame, asks = announces(1), request(2, 1)
        place.goes(ATTIC, frame[:12] + b"\x81\0\0\7" + frame[12:])
        assert len(place.switch.neighbours) == 0
        place.goes(ATTIC, frame)
        assert place.goes(OFFICE, asks[:12] + b"\x81\0\0\7" + asks[12:]) == {HUB, ATTIC}


class TestAnswering:
    def test_arp_is_answered_in_the_hosts_words(self) -> None:
        place = answering()
        place.goes(ATTIC, announces(1))
        assert place.goes(OFFICE, request(2, 1)) == set()
        assert place.switch.waiting
        assert place.switch.next_deadline() == 0.0
        assert place.said() == [(OFFICE, 0, answers(1, 2))]
        assert not place.switch.waiting

    def test_ipv6_too_if_it_is_known_whether_it_routes(self) -> None:
        place = answering()
        place.goes(ATTIC, solicits(1, 9))
        assert place.goes(OFFICE, solicits(2, 1)) == {ATTIC}
        place.goes(ATTIC, advertises(1, 9, router=True))
        assert place.goes(OFFICE, solicits(2, 1), REPEAT_SECONDS) == set()
        ((port, _, frame),) = place.said()
        told = nd.decode(frame, 14, outline(frame, 14))
        assert (port, frame[:12]) == (OFFICE, mac(2) + mac(1))
        assert told == nd.Advertisement(ipv6(1), ipv6(2), ipv6(1), mac(1), router=True, solicited=True, override=False)

    def test_a_second_time_it_is_left_to_the_host(self) -> None:
        place = answering()
        place.goes(ATTIC, announces(1))
        assert place.goes(OFFICE, request(2, 1)) == set()
        assert place.goes(OFFICE, request(2, 1), 1.0) == {HUB, ATTIC}

    def test_what_is_not_fresh_is_asked(self) -> None:
        place = answering()
        place.goes(ATTIC, announces(1))
        place.goes(ATTIC, sends(1, 9), FRESH_SECONDS)
        assert place.goes(OFFICE, request(2, 1)) == {ATTIC}

    def test_unicast_goes_to_the_host(self) -> None:
        place = answering()
        place.goes(ATTIC, announces(1))
        asks = request(2, 1)
        assert place.goes(OFFICE, mac(1) + asks[6:]) == {ATTIC}
        asks = solicits(2, 1)
        assert place.goes(OFFICE, mac(1) + asks[6:]) == {ATTIC}

    def test_in_the_vlan_of_the_question(self) -> None:
        place = answering(PortSettings("7", vlans=access(7)), PortSettings("t", vlans=trunk(None)))
        place.goes(0, announces(1))
        asks = request(2, 1)
        assert place.goes(1, asks[:12] + b"\x81\0\0\7" + asks[12:]) == set()
        assert place.said() == [(1, 7, answers(1, 2))]

    def test_a_flood_of_questions_leaves_no_heap_of_answers(self) -> None:
        place = answering()
        place.goes(ATTIC, announces(1))
        assert sum(place.goes(OFFICE, request(number, 1), 0.0) == set() for number in range(2, 3000)) == 1024
        assert len(place.said()) == 1024


class TestProbes:
    """RFC 5227, section 2.1.1; RFC 4862, section 5.4."""

    @pytest.mark.parametrize("suppression", Suppression)
    def test_they_are_never_answered_and_reach_all(self, suppression: Suppression) -> None:
        place = Place(suppression)
        place.goes(ATTIC, announces(1))
        place.goes(ATTIC, announces(1, ipv6(1)))
        assert place.goes(OFFICE, arp.probe(mac(2), ipv4(1))) == {HUB, ATTIC}
        assert place.goes(OFFICE, nd.probe(mac(2), ipv6(1))) == {HUB, ATTIC}
        assert place.said() == []

    def test_who_probes_may_have_it_soon(self) -> None:
        place = answering()
        place.goes(ATTIC, announces(1))
        place.goes(OFFICE, arp.probe(mac(2), ipv4(1)))
        assert place.goes(HUB, request(3, 1)) == {ATTIC, OFFICE}
        assert place.goes(HUB, request(3, 1), DOUBT_SECONDS) == set()


class TestConflicts:
    def test_a_new_owner_is_no_conflict(self) -> None:
        place = direct()
        place.goes(ATTIC, announces(1))
        place.goes(OFFICE, announces(2, ipv4(1)))
        assert place.goes(HUB, request(3, 1)) == {OFFICE}
        assert place.switch.notices == []

    def test_two_owners_are_told_and_nobody_answers_for_them(self) -> None:
        place = direct()
        for port, host in ((ATTIC, 1), (OFFICE, 2), (ATTIC, 1), (OFFICE, 2)):
            place.goes(port, announces(host, ipv4(1)))
        assert place.switch.notices == [
            Notice(
                "warning",
                "neighbours.conflict",
                "10.0.0.1 is claimed by two hosts, 02:00:00:00:00:02 and 02:00:00:00:00:01",
            )
        ]
        assert place.goes(HUB, request(3, 1)) == {ATTIC, OFFICE}
        assert place.goes(HUB, request(3, 1), FIGHT_SECONDS) == {OFFICE}


class TestCaps:
    def test_a_port_forgets_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_PER_PORT", 3)
        place = direct()
        place.goes(OFFICE, announces(9))
        for number in range(1, 6):
            place.goes(ATTIC, announces(number))
        assert [host.address for host in place.switch.neighbours.hosts(ATTIC)] == [ipv4(5), ipv4(4), ipv4(3)]
        assert [host.address for host in place.switch.neighbours.hosts(OFFICE)] == [ipv4(9)]

    def test_all_ports_have_so_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_NEIGHBOURS", 3)
        place = direct()
        for number in range(1, 6):
            place.goes(ATTIC, announces(number))
        place.goes(OFFICE, announces(9))
        assert len(place.switch.neighbours) == 3
        assert [host.address for host in place.switch.neighbours.hosts(ATTIC)] == [ipv4(5), ipv4(4), ipv4(3)]

    def test_questions_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_QUESTIONS", 5)
        place = direct()
        place.goes(ATTIC, announces(1))
        for number in range(2, 20):
            place.goes(OFFICE, request(number, 1))
            assert len(place.switch.neighbours._questions) <= 5

    def test_a_port_that_is_gone_has_no_neighbours(self) -> None:
        place = direct()
        place.goes(ATTIC, announces(1))
        place.switch.remove_port(ATTIC)
        assert len(place.switch.neighbours) == 0
        assert place.goes(OFFICE, request(2, 1)) == {HUB}


SAID = st.sampled_from([request(1, 2), request(2, 1), announces(1), answers(1, 2), solicits(1, 2), advertises(2, 1)])


@given(
    st.sampled_from(Suppression),
    st.lists(
        st.tuples(st.integers(0, 2), SAID, st.integers(0, 90), st.integers(0, 255), st.floats(0, 400)), max_size=20
    ),
)
def test_any_frame_goes_somewhere_or_is_answered(
    suppression: Suppression, steps: list[tuple[int, bytes, int, int, float]]
) -> None:
    place = Place(suppression)
    for port, frame, at, octet, wait in steps:
        place.goes(port, frame, wait)
        changed = bytearray(frame)
        changed[at % len(frame)] = octet
        assert port not in place.goes(port, bytes(changed))
        for to, _, said in place.said():
            assert to == port
            assert len(said) >= 60
        assert sum(len(list(place.switch.neighbours.hosts(each))) for each in range(3)) == len(place.switch.neighbours)
