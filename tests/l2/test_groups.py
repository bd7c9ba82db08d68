"""The multicast database over all ports and VLANs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from caetun.l2.filter import NOTHING, Asked, Timing
from caetun.l2.groups import MAX_GROUPS, MAX_GROUPS_PER_PORT, GroupTable
from caetun.types import DropReason, Drops
from caetun.wire.membership import GroupRecord, Kind

GROUP, OTHER = bytes((239, 1, 2, 3)), bytes((239, 129, 2, 3))
"""Two groups with one MAC address."""
A, B = b"\xc0\0\2\1", b"\xc0\0\2\2"
TIMING = Timing(260.0, 2.0)
JOIN, LEAVE = GroupRecord(Kind.TO_EXCLUDE, GROUP), GroupRecord(Kind.TO_INCLUDE, GROUP)


def table() -> GroupTable:
    return GroupTable(3, Drops())


class TestMembers:
    def test_nobody_has_asked(self) -> None:
        groups = table()
        assert groups.members(1, GROUP, A) is None
        assert groups.hear(1, 5, LEAVE, 2, 0.0, TIMING) == NOTHING
        assert len(groups) == 0

    def test_those_who_joined_and_no_others(self) -> None:
        groups = table()
        for port in (5, 6):
            groups.hear(1, port, JOIN, 3, 0.0, TIMING)
        assert groups.members(1, GROUP, A) == {5, 6}
        assert groups.members(1, OTHER, A) is None, "tables are by address, not by MAC"
        assert groups.members(2, GROUP, A) is None, "each VLAN for itself"

    def test_the_union_of_what_is_wanted_by_source(self) -> None:
        groups = table()
        groups.hear(1, 5, GroupRecord(Kind.ALLOW, GROUP, (A,)), 3, 0.0, TIMING)
        groups.hear(1, 6, GroupRecord(Kind.IS_EXCLUDE, GROUP, (A,)), 3, 0.0, TIMING)
        groups.hear(1, 7, JOIN, 3, 0.0, TIMING)
        assert groups.members(1, GROUP, A) == {5, 7}
        assert groups.members(1, GROUP, B) == {6, 7}

    def test_a_static_port_gets_it_always(self) -> None:
        groups = table()
        groups.set_static(1, GROUP, frozenset({9}))
        groups.hear(1, 5, GroupRecord(Kind.ALLOW, GROUP, (A,)), 3, 0.0, TIMING)
        assert groups.members(1, GROUP, A) == {5, 9}
        assert groups.members(1, GROUP, B) == {9}
        groups.expire(1000.0)
        assert groups.members(1, GROUP, A) == {9}
        groups.set_static(1, GROUP, frozenset())
        assert groups.members(1, GROUP, A) is None


class TestEnds:
    def test_without_a_report_it_ends(self) -> None:
        groups = table()
        groups.hear(1, 5, JOIN, 3, 0.0, TIMING)
        groups.hear(1, 6, JOIN, 3, 100.0, TIMING)
        groups.expire(260.0)
        assert groups.members(1, GROUP, A) == {6}
        groups.hear(1, 6, GroupRecord(Kind.IS_EXCLUDE, GROUP), 3, 300.0, TIMING)
        groups.expire(360.0)
        assert groups.members(1, GROUP, A) == {6}
        groups.expire(560.0)
        assert groups.members(1, GROUP, A) is None
        assert groups.next_deadline() is None

    def test_a_leave_asks_and_without_an_answer_it_ends_within_two_seconds(self) -> None:
        groups = table()
        for port in (5, 6):
            groups.hear(1, port, JOIN, 3, 0.0, TIMING)
        asked = groups.hear(1, 5, LEAVE, 2, 10.0, TIMING)
        assert asked == Asked(True)
        groups.asked(1, GROUP, asked, 10.0, TIMING)
        groups.hear(1, 6, GroupRecord(Kind.IS_EXCLUDE, GROUP), 3, 10.5, TIMING)
        groups.expire(11.9)
        assert groups.members(1, GROUP, A) == {5, 6}
        groups.expire(12.0)
        assert groups.members(1, GROUP, A) == {6}

    def test_fast_leave_is_at_once(self) -> None:
        groups = table()
        groups.hear(1, 5, JOIN, 3, 0.0, TIMING)
        groups.leave(1, 5, GROUP)
        groups.leave(1, 5, GROUP)
        assert groups.members(1, GROUP, A) is None

    def test_a_port_that_is_gone_wants_nothing(self) -> None:
        groups = table()
        for port in (5, 6):
            groups.hear(1, port, JOIN, 3, 0.0, TIMING)
        groups.flush(5)
        assert groups.members(1, GROUP, A) == {6}


class TestBounds:
    def test_a_flood_of_groups_at_one_port_leaves_room_for_others(self) -> None:
        drops = Drops()
        groups = GroupTable(3, drops)
        for number in range(MAX_GROUPS_PER_PORT + 10):
            groups.hear(1, 5, GroupRecord(Kind.TO_EXCLUDE, b"\xef" + number.to_bytes(3, "big")), 3, 0.0, TIMING)
        assert len(groups) == MAX_GROUPS_PER_PORT
        assert drops == {DropReason.MULTICAST_FULL: 10}
        groups.hear(1, 6, JOIN, 3, 0.0, TIMING)
        assert groups.members(1, GROUP, A) == {6}

    def test_the_whole_table_has_an_end(self) -> None:
        drops = Drops()
        groups = GroupTable(3, drops)
        for number in range(MAX_GROUPS + 10):
            record = GroupRecord(Kind.TO_EXCLUDE, b"\xef" + number.to_bytes(3, "big"))
            groups.hear(1, number // MAX_GROUPS_PER_PORT, record, 3, 0.0, TIMING)
        assert len(groups) == MAX_GROUPS
        assert drops == {DropReason.MULTICAST_FULL: 10}

    def test_renewing_does_not_grow_the_agenda(self) -> None:
        groups = table()
        for number in range(10_000):
            groups.hear(1, 5, JOIN, 3, float(number), TIMING)
        assert len(groups._due) < 100


@given(
    st.lists(
        st.tuples(
            st.sampled_from(Kind),
            st.sampled_from([GROUP, OTHER]),
            st.sets(st.sampled_from([A, B])),
            st.integers(0, 2),
            st.integers(1, 3),
            st.integers(0, 200),
        )
    )
)
def test_what_goes_out_is_what_the_ports_want(
    said: list[tuple[Kind, bytes, set[bytes], int, int, int]],
) -> None:
    groups, now = table(), 0.0
    for kind, group, sources, port, version, wait in said:
        now += wait
        groups.expire(now)
        asked = groups.hear(1, port, GroupRecord(kind, group, tuple(sources)), version, now, TIMING)
        groups.asked(1, group, asked, now, TIMING)
        for each in (GROUP, OTHER):
            rows = [row for row in groups.rows(now) if row.group == each]
            for source in (A, B):
                expected = {row.port for row in rows if row.excluding == (source not in row.sources)}
                assert (groups.members(1, each, source) or frozenset()) == expected
            assert all(row.expires > 0 for row in rows)
    groups.expire(now + 1000)
    assert len(groups) == 0
