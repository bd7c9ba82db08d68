"""Random traces, each from one seed: hosts that come, talk, move, join and leave, and all the frames that go with it.

A trace does not provoke what is known to leave other state behind (see `differences.py`): those cases have traces of
their own there. So its hosts move no more often than the guard against flapping addresses allows, each port has hosts
of one version for one group, and hosts of IGMPv1, which cannot say that they leave, do not leave.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from caetun.l2.fdb import FLAP_MOVES
from caetun.wire.checksum import ones_sum
from caetun.wire.membership import GroupRecord, Kind, Query
from tests.l2.frames import data, ethernet, group_mac, ipv4, ipv6, mac, packet4, packet6, query, report

BROADCAST: Final = b"\xff" * 6
NOBODY4, NOBODY6 = bytes(4), bytes(16)
PORTS: Final = 5
_HOP_LIMIT_AT: Final = 21
LENGTH: Final = 40
"""Frames of one trace."""
_FIXED_GROUPS: Final = [
    bytes((224, 0, 0, 1)),
    bytes((224, 0, 0, 251)),
    bytes((239, 255, 255, 250)),
    bytes.fromhex("ff020000000000000000000000000001"),
    bytes.fromhex("ff0200000000000000000000000000fb"),
    bytes.fromhex("ff0200000000000000000001ff001234"),
    bytes.fromhex("ff050000000000000000000000000002"),
    bytes.fromhex("ff010000000000000000000000000001"),
]
_MULTICAST_MACS: Final = [
    bytes.fromhex(each) for each in ("0180c2000014", "09002b000005", "01000ccccccd", "0180c2000020")
]


class Step(NamedTuple):
    """A frame that comes in by a port."""

    port: int
    frame: bytes
    what: str
    """For people."""


class World:
    """Hosts at the ports of one switch, and what they do, by chance."""

    def __init__(
        self, seed: int, querier: int | None = None, ports: Sequence[int] = range(PORTS), newest: bool = True
    ) -> None:
        """`querier`: the port of a real one, host 9; `newest`: whether hosts may know single sources."""
        self._random = random.Random(seed)
        self._querier = querier
        self._ports = ports
        self._newest_too = newest
        self.down: int | None = None
        """A port whose cable is out: its hosts are not heard."""
        pick = self._random
        self._hosts = {pick.randrange(16, 1 << 16): pick.choice(ports) for _ in range(8)}
        self._moves = dict.fromkeys(self._hosts, 0)
        self._groups = [bytes((239, pick.randrange(256), pick.randrange(256), pick.randrange(256))) for _ in range(3)]
        self._groups += [
            b"\xff" + pick.choice(b"\x02\x05\x08\x0e\x1e\x35").to_bytes(1, "big") + pick.randbytes(14) for _ in range(3)
        ]
        self.versions: dict[tuple[int, bytes], int] = {}
        self._sources = [pick.choice(list(self._hosts)) for _ in range(3)]
        self._seen: list[Step] = []

    def steps(self, length: int = LENGTH, tagged: bool = True) -> list[Step]:
        """A trace, which goes on where the last one ended; with frames that have tags, or without."""
        kinds: dict[Callable[[], Step], int] = {
            self._unicast: 20, self._broadcast: 8, self._reserved: 3, self._llc: 4, self._data: 25, self._join: 14,
            self._sources_report: 14, self._leave: 8, self._move: 4, self._tagged: 4 * tagged, self._malformed: 10,
            self._router: 2, self._query: 3, self._strange: 4,
        }  # fmt: skip
        return [step() for step in self._random.choices(list(kinds), list(kinds.values()), k=length)]

    def _step(self, host: int, frame: bytes, what: str) -> Step:
        self._seen.append(Step(self._hosts[host], frame, what))
        return self._seen[-1]

    def _host(self) -> int:
        heard = [host for host, port in self._hosts.items() if port != self.down]
        if heard:
            return self._random.choice(heard)
        host = self._random.choice(list(self._hosts))
        self._hosts[host] = self._random.choice([port for port in self._ports if port != self.down])
        return host

    def _group(self, family: int | None = None) -> bytes:
        return self._random.choice([group for group in self._groups if family in (None, len(group))])

    # not multicast

    def _unicast(self) -> Step:
        source, target = self._host(), mac(self._host() if self._random.random() < 0.9 else 5)
        kind = self._random.choice([0x0800, 0x86DD, 0x1234])
        return self._step(source, ethernet(target, mac(source), kind, self._random.randbytes(46)), "unicast")

    def _broadcast(self) -> Step:
        source = self._host()
        arp = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + mac(source) + ipv4(source) + bytes(6) + ipv4(self._host())
        kind, payload = self._random.choice(
            [(0x0806, arp), (0x0800, packet4(ipv4(source), b"\xff" * 4, 17, bytes(20))), (0x1234, bytes(46))]
        )
        return self._step(source, ethernet(BROADCAST, mac(source), kind, payload), "broadcast")

    def _reserved(self) -> Step:
        source = self._host()
        last = self._random.randrange(16)
        target = bytes.fromhex("0180c20000") + bytes((last,))
        return self._step(source, ethernet(target, mac(source), 0x88CC, bytes(46)), f"reserved {last:02x}")

    def _llc(self) -> Step:
        source = self._host()
        target = self._random.choice([mac(self._host()), BROADCAST, *_MULTICAST_MACS])
        return self._step(source, ethernet(target, mac(source), 0x26, b"\xfe\xfe\x03" + bytes(43)), "llc")

    def _move(self) -> Step:
        source = self._host()
        if self._moves[source] < FLAP_MOVES - 1:
            self._moves[source] += 1
            self._hosts[source] = self._random.choice([port for port in self._ports if port != self.down])
        return self._step(source, ethernet(BROADCAST, mac(source), 0x0806, bytes(28)), "move")

    # multicast

    def _data(self) -> Step:
        group = self._random.choice(_FIXED_GROUPS) if self._random.random() < 0.3 else self._group()
        sources = [each for each in self._sources if self._hosts[each] != self.down]
        source = self._random.choice([self._host(), *sources])
        return self._step(source, data(source, group), f"data to {group.hex()}")

    def _version(self, port: int, group: bytes) -> int:
        versions = [1, 2, 3, 3] if len(group) == 4 else [1, 2, 2]
        if not self._newest_too:
            versions = [1, 2] if len(group) == 4 else [1]
        return self.versions.setdefault((port, group), self._random.choice(versions))

    def _join(self) -> Step:
        host, group = self._host(), self._group()
        version = self._version(self._hosts[host], group)
        kind = (
            self._random.choice([Kind.IS_EXCLUDE, Kind.TO_EXCLUDE]) if self._newest(version, group) else Kind.IS_EXCLUDE
        )
        return self._step(host, report(host, version, GroupRecord(kind, group)), f"join v{version} {group.hex()}")

    @staticmethod
    def _newest(version: int, group: bytes) -> bool:
        return version == (3 if len(group) == 4 else 2)

    def _leave(self) -> Step:
        host, group = self._host(), self._group()
        version = self._version(self._hosts[host], group)
        if version == 1 and len(group) == 4:
            return self._join()
        return self._step(
            host, report(host, version, GroupRecord(Kind.TO_INCLUDE, group)), f"leave v{version} {group.hex()}"
        )

    def _sources_report(self) -> Step:
        host, family = self._host(), self._random.choice([4, 16])
        port = self._hosts[host]
        some = [
            group for group in self._groups if len(group) == family and self._newest(self._version(port, group), group)
        ]
        if not some:
            return self._data()
        address = ipv4 if family == 4 else ipv6
        records = []
        for group in self._random.sample(some, self._random.randint(1, len(some))):
            kind = self._random.choice(list(Kind))
            chosen = self._random.sample(self._sources, self._random.randint(0, 3))
            records.append(GroupRecord(kind, group, tuple(dict.fromkeys(address(each) for each in chosen))))
        return self._step(
            host,
            report(host, 3 if family == 4 else 2, *records),
            "; ".join(f"{record.kind.name} {record.group.hex()} of {len(record.sources)}" for record in records),
        )

    def _router(self) -> Step:
        """PIM hello or Multicast Router Discovery, IPv4."""
        host = self._host()
        protocol, last, message = self._random.choice(
            [(103, 13, b"\x20\0\xdf\xff"), (2, 106, b"\x30\x14\xcf\xe7\0\x02\0\x02")]
        )
        group = bytes((224, 0, 0, last))
        return self._step(
            host,
            ethernet(group_mac(group), mac(host), 0x0800, packet4(ipv4(host), group, protocol, message)),
            "router hello",
        )

    def _query(self) -> Step:
        if self._querier is None or self._querier == self.down:
            return self._data()
        return Step(self._querier, self.question(self._group() if self._random.random() < 0.7 else None), "query")

    def question(self, group: bytes | None = None, family: int = 4) -> bytes:
        """A query of the real querier."""
        family = family if group is None else len(group)
        address = ipv4(9) if family == 4 else ipv6(9)
        version = self._random.choice([2, 3] if family == 4 else [1, 2])
        return query(9, Query(version, address, group or bytes(family), 10.0, interval=125.0, robustness=2))

    # odd

    def _tagged(self) -> Step:
        step = self._random.choice([self._unicast, self._broadcast, self._data])()
        tags = b"".join(
            self._random.choice([b"\x81\0", b"\x88\xa8"]) + self._random.randrange(1 << 16).to_bytes(2, "big")
            for _ in range(self._random.randint(1, 3))
        )
        return step._replace(frame=step.frame[:12] + tags + step.frame[12:], what=f"tagged {tags.hex()} {step.what}")

    def _malformed(self) -> Step:
        """A frame cut short, with a byte changed, or from nobody."""
        step = self._random.choice(self._seen) if self._seen else self._data()
        if step.port == self.down:
            step = self._broadcast()
        stranger = mac(0x010000 + step.port)  # where he always was: what is wrong is the frame, not its source
        frame = step.frame[:6] + stranger + step.frame[12:]
        match self._random.randrange(4):
            case 0:
                changed = frame[: self._random.randint(14, len(frame))]
            case 1:
                # not the hop limit, which no checksum covers, and which is a difference of its own
                at = self._random.choice([each for each in range(12, len(frame)) if each != _HOP_LIMIT_AT])
                changed = frame[:at] + bytes((frame[at] ^ 1 << self._random.randrange(8),)) + frame[at + 1 :]
            case 2:
                changed = frame[:6] + self._random.choice([bytes(6), group_mac(self._group())]) + frame[12:]
            case _:
                changed = frame[:14] + self._random.randbytes(self._random.randrange(60))
        return Step(step.port, changed, "malformed")

    def _strange(self) -> Step:
        """Right, but rare: fragments, options, extension headers, unknown types."""
        host, group4, group6 = self._host(), self._group(4), self._group(16)
        address4, address6 = ipv4(host), ipv6(host)
        extensions, routers = b"\x2b\0\1\2\0\0\0\0\x11\0\0\0\0\0\0\0", bytes((224, 0, 0, 13))
        igmp = b"\x13\0\xec\xff\0\0\0\0"
        fragment = packet4(address4, group4, 17, bytes(24))
        fragment = fragment[:6] + b"\x20\x10" + fragment[8:10] + b"\0\0" + fragment[12:]
        fragment = fragment[:10] + (ones_sum(fragment[:20]) ^ 0xFFFF).to_bytes(2, "big") + fragment[12:]
        what, group, payload = self._random.choice([
            ("igmp of an unknown type", bytes((224, 0, 0, 7)), packet4(address4, bytes((224, 0, 0, 7)), 2, igmp)),
            ("options", group4, packet4(address4, group4, 17, bytes(20), b"\x94\x04\0\0\1\1\1\0")),
            ("fragment", group4, fragment),
            ("extension headers", group6, packet6(address6, group6, 60, extensions + bytes(20))),
            ("fragment of IPv6", group6, packet6(address6, group6, 44, b"\x11\0\0\1\0\0\0\7" + bytes(24))),
            ("icmpv6", group6, packet6(address6, group6, 58, b"\x80\0\0\0" + bytes(20))),
            ("pim without hello", routers, packet4(address4, routers, 103, b"\x23\0\xdf\xfc")),
            ("padding", group4, packet4(address4, group4, 17, bytes(8)) + bytes(18)),
        ])  # fmt: skip
        kind = 0x0800 if len(group) == 4 else 0x86DD
        return self._step(host, ethernet(group_mac(group), mac(host), kind, payload), what)
