"""Linux bridges whose ports are TAP devices of this process: what is written to one comes out of others at once.

A write to a TAP runs through the bridge within the writer's own system call, and a TAP without a queueing discipline
has the frame ready to be read when that call returns. So no frame needs waiting for, and order is certain.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from caetun.lab import Lab

# fixed by the kernel's interface: linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_TUNSETPERSIST: Final = 0x400454CB
_TAP_WITHOUT_HEADER: Final = 0x1002
_IFREQ: Final = struct.Struct("16sH22x")

_QUERIER: Final = "mcast_querier"

# chosen by us
_ROOM: Final = 2048
ADDRESS: Final = bytes.fromhex("02ffffffff00")
"""Of every Linux bridge, so that what it says itself is known by its source."""
_COMMON: Final = {"mcast_snooping": 1, "mcast_igmp_version": 3, "mcast_mld_version": 2, "no_linklocal_learn": 1}
"""What makes a Linux bridge as ours is: it follows sources, and does not learn from reserved addresses."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A Linux bridge to be made."""

    ports: int
    options: Mapping[str, int] = field(default_factory=dict)
    """Those of ip-link(8), `type bridge`, beyond `_COMMON`."""
    isolated: frozenset[int] = frozenset()
    """Ports that do not reach each other."""
    address4: str = ""
    address6: str = ""
    """Its own, without prefix length. Without an IPv6 address it does not ask for IPv6 memberships."""
    slave: str = ""
    """Options of its ports, of ip-link(8), `type bridge_slave`."""


class KernelBridge:
    """One Linux bridge. Ports are numbered from 0."""

    def __init__(self, taps: Sequence[int]) -> None:
        """`taps`: the descriptors of its ports' devices, which it does not own."""
        self.taps = taps

    def forward(self, port: int, frame: bytes) -> dict[int, list[bytes]]:
        """Let a frame come in by a port; returns what came out: port -> frames. Its own frames are left out."""
        os.write(self.taps[port], frame)
        return self.waiting()

    def waiting(self) -> dict[int, list[bytes]]:
        """What has come out since somebody last looked."""
        return {number: some for number, tap in enumerate(self.taps) if (some := _read(tap))}


def _read(tap: int) -> list[bytes]:
    found: list[bytes] = []
    while True:
        try:
            frame = os.read(tap, _ROOM)
        except BlockingIOError:
            return found
        if frame[6:12] != ADDRESS:
            found.append(frame)


class Workshop:
    """A host with some Linux bridges; all are gone when it is closed."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        """Needs the rights to make namespaces and devices."""
        self._lab = Lab()
        self._host = self._lab.host("switches")
        self._host.set("net.ipv6.conf.default.disable_ipv6", 1)  # ports have nothing to say themselves
        for kind in ("ip", "ip6", "arp"):  # where the kernel has it: a firewall that looks into bridged packets
            if self._host.inside(Path(f"/proc/sys/net/bridge/bridge-nf-call-{kind}tables").exists):
                self._host.set(f"net.bridge.bridge-nf-call-{kind}tables", 0)
        names = [[f"t{number}p{port}" for port in range(plan.ports)] for number, plan in enumerate(plans)]
        self._taps = self._host.inside(lambda: [[_open_tap(name) for name in some] for some in names])
        made = "".join(line + "\n" for number, plan in enumerate(plans) for line in _bridge_lines(number, plan))
        self._host.run(["ip", "-batch", "-"], text=made)
        queues = "".join(f"qdisc replace dev {name} root noqueue\n" for some in names for name in some)
        self._host.run(["tc", "-batch", "-"], text=queues)
        for number, plan in enumerate(plans):
            if plan.address6:
                self._host.set(f"net.ipv6.conf.br{number}.disable_ipv6", 0)
        self.ip(line for number, plan in enumerate(plans) for line in _address_lines(number, plan))
        self.bridges = [KernelBridge(taps) for taps in self._taps]

    def ip(self, lines: Iterable[str]) -> None:
        """Commands of ip(8): bridge `n` is `br<n>`, its port `p` is `t<n>p<p>`."""
        self._host.run(["ip", "-batch", "-"], text="".join(line + "\n" for line in lines))

    def bridge(self, line: str) -> str:
        """A command of bridge(8)."""
        return self._host.run(["bridge", *line.split()])

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Unplug everything."""
        for taps in self._taps:
            for tap in taps:
                os.close(tap)
        self._lab.close()


def _open_tap(name: str) -> int:
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tap, _TUNSETIFF, _IFREQ.pack(name.encode(), _TAP_WITHOUT_HEADER))
    # It goes with its namespace, all devices at once; one by one would take the kernel some 20 ms each.
    fcntl.ioctl(tap, _TUNSETPERSIST, 1)
    return tap


def _bridge_lines(number: int, plan: Plan) -> Iterator[str]:
    options = " ".join(f"{name} {value}" for name, value in {**_COMMON, **plan.options}.items() if name != _QUERIER)
    yield f"link add br{number} address {ADDRESS.hex(':')} type bridge {options}"
    for port in range(plan.ports):
        yield f"link set t{number}p{port} master br{number} up"
        if port in plan.isolated:
            yield f"link set t{number}p{port} type bridge_slave isolated on"
        if plan.slave:
            yield f"link set t{number}p{port} type bridge_slave {plan.slave}"
    yield f"link set br{number} up"


def _address_lines(number: int, plan: Plan) -> Iterator[str]:
    if plan.address4:
        yield f"address add {plan.address4}/16 dev br{number}"
    if plan.address6:
        yield f"address add {plan.address6}/64 dev br{number} nodad"
    if _QUERIER in plan.options:  # after the addresses, which it asks from
        yield f"link set br{number} type bridge {_QUERIER} {plan.options[_QUERIER]}"
