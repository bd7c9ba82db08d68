"""Hosts and cables: what a scenario is written with.

    with Lab() as lab:
        client, server = lab.host("client"), lab.host("server")
        lab.link(client, server, left=["10.0.0.1/24"], right=["10.0.0.2/24"], cable=Cable(delay=0.01))
        print(client.run(["ping", "-c", "3", "10.0.0.2"]))

Needs root, or `become_root()` beforehand. Everything is undone by `close`, and by the kernel if this process dies.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, TypeAlias, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from caetun.errors import HostError
from caetun.lab import relay
from caetun.lab.namespaces import HostNamespaces, Processes, in_thread, program_path

# -- chosen by us --
_TIMEOUT = 30.0  # seconds a program may take that `run` waits for
_TBF_BURST = 0.01  # seconds of its rate that a token bucket holds
_TBF_LATENCY = 0.05  # seconds a packet may wait in the token bucket's queue
_LEAST_BURST = 16_000  # bytes: below this the timer's granularity, not the rate, would set the speed
_LOSS_PARTS = 100_000  # resolution of a share of lost packets

_T = TypeVar("_T")
_Stream: TypeAlias = int | IO[bytes] | None


@dataclass(frozen=True, slots=True)
class Cable:
    """What lies between two hosts."""

    mtu: int = 1500
    """Bytes, 68..65,535."""
    offload: bool | None = None
    """Whether superframes (TSO, GSO, UDP_SEGMENT) cross whole. None: only on a cable without delay."""
    delay: float = 0.0
    """Seconds, one way. With delay or jitter a relay host forwards every packet (some 300 Mbit/s of 1500 bytes)."""
    jitter: float = 0.0
    """Seconds by which the delay varies, up and down. Packets overtake each other."""
    loss: float = 0.0
    """Share of packets lost in each direction, 0..1."""
    rate: int = 0
    """Bits per second in each direction, 0: as fast as the machine. A relay drops what is too much for the
    bottleneck's queue; without one, the sender's own queue (tbf) holds it back."""

    @property
    def relayed(self) -> bool:
        """Whether a relay does all of it; otherwise the kernel does loss and rate."""
        return bool(self.delay or self.jitter)

    @property
    def superframes(self) -> bool:
        """`offload` with its default filled in."""
        return not self.relayed if self.offload is None else self.offload


@dataclass(frozen=True, slots=True)
class Counters:
    """What a device has carried. A superframe counts as one packet."""

    received_bytes: int
    received_packets: int
    sent_bytes: int
    sent_packets: int


class Host:
    """One machine of the Lab: a network and mounts of its own, the real machine's files."""

    def __init__(self, name: str, processes: Processes, private: Sequence[str] = ()) -> None:
        """Called by `Lab.host`."""
        self.name = name
        self.namespaces = HostNamespaces(private)
        self.ports = 0
        self._processes = processes

    def inside(self, function: Callable[[], _T]) -> _T:
        """Call `function` on a thread that is in this host; what it opens stays in this host."""

        def work() -> _T:
            self.namespaces.enter()
            return function()

        return in_thread(work)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Make a socket in this host, to be used from anywhere. The caller closes it."""
        return self.inside(lambda: socket.socket(family, kind, protocol))

    def spawn(
        self,
        command: Sequence[str],
        *,
        stdin: _Stream = subprocess.DEVNULL,
        stdout: _Stream = None,
        stderr: _Stream = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program in this host; `environment` adds to this process's. It dies with the Lab at the latest."""
        variables = {**os.environ, "PATH": program_path(), **(environment or {})}
        return self._processes.start(
            self.namespaces,
            lambda: subprocess.Popen(list(command), stdin=stdin, stdout=stdout, stderr=stderr, env=variables),
        )

    def run(self, command: Sequence[str], *, text: str = "", timeout: float = _TIMEOUT) -> str:
        """Run a program in this host with `text` as its input; return its output, both streams.

        Raises HostError if it fails, is missing, or takes longer than `timeout` seconds.
        """
        shown = f"`{' '.join(command)}` in {self.name}"
        try:
            process = self.spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except FileNotFoundError as error:
            raise HostError(f"{shown}: the program is not installed") from error
        try:
            output = process.communicate(text.encode(), timeout)[0].decode(errors="replace")
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.communicate()
            raise HostError(f"{shown}: not done after {timeout:g} s") from error
        if process.returncode:
            raise HostError(f"{shown}: exit status {process.returncode}: {output.strip()}")
        return output

    def set(self, name: str, value: int | str) -> None:
        """Set a network sysctl of this host, such as `net.ipv4.ip_forward`."""
        path = Path("/proc/sys", name.replace(".", "/"))
        self.inside(lambda: path.write_text(str(value)))

    def get(self, name: str) -> str:
        """Return a network sysctl of this host."""
        path = Path("/proc/sys", name.replace(".", "/"))
        return self.inside(path.read_text).strip()

    def counters(self, device: str) -> Counters:
        """Return what `device` has carried so far (proc_net(5), `dev`). Raises HostError if there is none."""
        # /proc/net would be that of the process's first thread
        table = self.inside(lambda: Path("/proc/thread-self/net/dev").read_text())
        for line in table.splitlines():
            name, _, values = line.partition(":")
            if name.strip() == device:
                numbers = [int(value) for value in values.split()]
                return Counters(numbers[0], numbers[1], numbers[8], numbers[9])
        raise HostError(f"{self.name} has no device {device}")


@dataclass(frozen=True, slots=True)
class Port:
    """One end of a cable."""

    host: Host
    device: str
    addresses: tuple[str, ...] = field(default=())

    @property
    def address(self) -> str:
        """The first address, without its prefix length."""
        return self.addresses[0].partition("/")[0]

    def up(self) -> None:
        """Plug the cable in."""
        _netlink(self.host, lambda ip, index: ip.link("set", index=index, state="up"), self.device)
        self.settle()

    def settle(self) -> None:
        """Make the kernel take note of the carrier now.

        Left alone, its link watch does so within a second; until then IPv6 addresses are there but not usable.
        """
        _netlink(self.host, lambda ip, index: ip.link("get", index=index), self.device)

    def down(self) -> None:
        """Pull the cable out. IPv6 addresses are lost with it, as on any Linux host."""
        _netlink(self.host, lambda ip, index: ip.link("set", index=index, state="down"), self.device)

    def lose(self, share: float) -> None:
        """Throw away `share` (0..1) of what comes in here from now on. 0 ends it. Needs nftables."""
        if not 0 <= share <= 1:
            raise ValueError(f"a share is 0..1, not {share}")
        parts = round(share * _LOSS_PARTS)
        rule = f"numgen random mod {_LOSS_PARTS} < {parts} drop" if parts else ""
        table = f"netdev loss-{self.device}"
        chain = f"chain in {{ type filter hook ingress device {self.device} priority 0; {rule}\n }}"
        # declared, deleted, made: so that it also works where there was none
        self.host.run(["nft", "-f", "-"], text=f"table {table}\ndelete table {table}\ntable {table} {{\n{chain}\n}}\n")

    def limit(self, rate: int) -> None:
        """Send at most `rate` bits per second from now on. Needs tc."""
        burst = max(int(rate / 8 * _TBF_BURST), _LEAST_BURST)
        shape = ["tbf", "rate", f"{rate}bit", "burst", str(burst), "latency", f"{_TBF_LATENCY * 1000:.0f}ms"]
        self.host.run(["tc", "qdisc", "replace", "dev", self.device, "root", *shape])

    def counters(self) -> Counters:
        """Return what this end has carried so far."""
        return self.host.counters(self.device)


class Lab:
    """Hosts and the cables between them."""

    def __init__(self) -> None:
        """Raises HostError where the kernel refuses namespaces (see `needs`)."""
        try:
            self._processes = Processes()
        except OSError as error:
            raise HostError(f"cannot make namespaces ({error.strerror}): be root, or call become_root()") from error
        self.hosts: list[Host] = []
        """In the order they were made, relays included."""

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Kill every program, then let go of every host."""
        self._processes.close()
        for host in self.hosts:
            host.namespaces.close()
        self.hosts.clear()

    def host(self, name: str, *, private: Sequence[str] = ()) -> Host:
        """Add a host. `private`: directories (such as /run) that are its own and empty, in memory."""
        host = Host(name, self._processes, private)
        self.hosts.append(host)
        return host

    def link(
        self,
        one: Host,
        other: Host,
        *,
        left: Sequence[str] = (),
        right: Sequence[str] = (),
        cable: Cable = Cable(),  # frozen, so one instance can serve every call
    ) -> tuple[Port, Port]:
        """Connect two hosts: `left` and `right` are their addresses with prefix length, IPv4 or IPv6.

        Devices are called eth0, eth1, ... in the order of connection. Both ends are up on return.
        """
        here = Port(one, _next_device(one), tuple(left))
        there = Port(other, _next_device(other), tuple(right))
        if cable.relayed:
            self._relay(here, there, cable)
        else:
            _connect(here, there, cable)
            for port in (here, there):
                if cable.loss:
                    port.lose(cable.loss)
                if cable.rate:
                    port.limit(cable.rate)
        _introduce(here, there)
        _introduce(there, here)
        return here, there

    def _relay(self, here: Port, there: Port, cable: Cable) -> None:
        """Put a relay host between two ports."""
        middle = self.host(f"relay {len(self.hosts)}")
        middle.set("net.ipv6.conf.default.disable_ipv6", 1)  # a cable does not speak
        ends = [Port(middle, _next_device(middle)), Port(middle, _next_device(middle))]
        _connect(here, ends[0], cable)
        _connect(ends[1], there, cable)
        how = relay.Impairment(cable.delay, cable.jitter, cable.loss, cable.rate)
        command = [sys.executable, "-I", relay.__file__, *(end.device for end in ends), json.dumps(asdict(how))]
        process = middle.spawn(command, stdout=subprocess.PIPE)
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise HostError("the relay of a delayed cable does not start; its message is above")
        process.stdout.close()


def _next_device(host: Host) -> str:
    host.ports += 1
    return f"eth{host.ports - 1}"


def _connect(here: Port, there: Port, cable: Cable) -> None:
    """Make a veth pair between two ports, addressed and up."""
    far = {"ifname": there.device, "net_ns_fd": there.host.namespaces.network, "mtu": cable.mtu}
    _netlink(here.host, lambda ip, _: ip.link("add", ifname=here.device, kind="veth", mtu=cable.mtu, peer=far))
    for port in (here, there):
        if not cable.superframes:
            features = ("tso", "gso", "gro", "tx-udp-segmentation")
            port.host.run(["ethtool", "-K", port.device, *(word for name in features for word in (name, "off"))])
        port.up()
    for port in (here, there):
        port.settle()  # again for the first one, whose carrier came with the second
        for address in port.addresses:
            _add_address(port, address)


def _add_address(port: Port, address: str) -> None:
    plain, _, length = address.partition("/")
    _netlink(
        port.host, lambda ip, index: ip.addr("add", index=index, address=plain, prefixlen=int(length)), port.device
    )


def _introduce(port: Port, far: Port) -> None:
    """Tell one end the hardware address of the other.

    Otherwise a lost or delayed ARP or neighbour solicitation would hold everything up for a second, and a scenario's
    figures would be about that.
    """
    mac = _netlink(far.host, lambda ip, index: ip.link("get", index=index)[0].get("address"), far.device)

    def introduce(ip: IPRoute, index: int) -> None:
        for address in far.addresses:
            ip.neigh("replace", ifindex=index, dst=address.partition("/")[0], lladdr=mac, state="permanent")

    _netlink(port.host, introduce, port.device)


def _netlink(host: Host, request: Callable[[IPRoute, int], _T], device: str = "lo") -> _T:
    """Make one rtnetlink request in `host`; it gets the socket and the index of `device`."""

    def work() -> _T:
        with IPRoute() as ip:
            return request(ip, socket.if_nametoindex(device))

    try:
        return host.inside(work)
    except NetlinkError as error:
        raise HostError(f"{host.name}, {device}: the kernel refuses ({error})") from error
