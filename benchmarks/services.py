"""What the session's services cost while data flows: a tunnel with all of them, but compression, beside a bare one.

    benchmarks/services.py [--seconds 2] [--rounds 7] [--mode tap|tun] [--hub] [--no-offload]   (root)

    client 10.99.0.2 ---------- 10.99.0.1 hub 1.1.1.2 ---------- 1.1.1.1 web        (the last one with --mode tun)

Two sets of hosts with a tunnel each, one TCP stream at a time, in turn. Bare: keys and addresses. With all: the hub
negotiates, has a pool and routes to push, wants a password on top of the key, and has rules, as the client has: the
segment size is clamped, a filter, classes. With `--mode tun` data goes on to a web server: the bare hub forwards by
routes set by hand, the other one translates addresses (`--masquerade`), and its client sends everything through the
tunnel, with a kill switch. Printed are medians, and the median of the rounds' ratios; then the same of the processor
time that the two ends of a tunnel took for a gigabyte, which a busy machine distorts less. With `--hub` the bare tunnel
has a place for a second far end, and with it the switch or router that the other one has.
"""

from __future__ import annotations

import argparse
import base64
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from hub import SOURCES, keyed, rate, tunnel, wait_until_reached

from caetun.lab import Host, Lab
from caetun.session.identity import public_key

# chosen by us
_POOL: Final = "10.88.0.0/24"
_WEB: Final = "1.1.1.1"
_USER: Final = "alice"
_RULES: Final = ("mss auto", "drop udp port 5353", "out dscp ef udp port 5060-5061")


class Place(NamedTuple):
    """One tunnel: who sends to whom."""

    client: Host
    receiver: Host
    address: str
    """Of the receiver, as the client reaches it."""
    ends: tuple[subprocess.Popen[bytes], ...]
    """The tunnel's processes."""

    def measure(self, seconds: float) -> tuple[float, float]:
        """One stream: Mbit/s, and seconds of the ends' processors for a gigabyte."""
        before = self._processor_time()
        carried = rate(self.client, self.receiver, self.address, seconds)
        return carried, (self._processor_time() - before) / (carried * seconds / 8000)

    def _processor_time(self) -> float:
        """Seconds so far (proc_pid_stat(5): utime and stime)."""
        fields = [Path(f"/proc/{end.pid}/stat").read_text().rpartition(")")[2].split() for end in self.ends]
        return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def bare(lab: Lab, options: argparse.Namespace) -> Place:
    """Keys and addresses only."""
    client, hub, receiver, address, keys = hosts(lab, options.mode)
    hub.set("net/ipv4/ip_forward", 1)
    route = ["--route", f"{_WEB}/32"] if options.mode == "tun" else []
    if receiver is not hub:
        receiver.run(["ip", "route", "add", _POOL, "via", "1.1.1.2"])
    peers = ["--peer", keys[1] + (",allowed=10.88.0.2" if options.hub and options.mode == "tun" else "")]
    if options.hub:
        absent = base64.b64encode(public_key(os.urandom(32))).decode()
        peers += ["--peer", absent + (",allowed=10.88.0.3" if options.mode == "tun" else "")]
    ends = (
        start(options, hub, "--listen", ":4500", "--address", "10.88.0.1/24", *peers),
        start(options, client, "--connect", "10.99.0.1:4500", "--peer", keys[0], "--address", "10.88.0.2/24", *route),
    )
    return Place(client, receiver, address, ends)


def with_all(lab: Lab, options: argparse.Namespace) -> Place:
    """Negotiation, authentication, rules, and with `--mode tun` the gateway."""
    client, hub, receiver, address, keys = hosts(lab, options.mode)
    rules = [word for rule in _RULES for word in ("--mangle", rule)]
    command = [sys.executable, "-m", "caetun", "passwd", "/run/users", _USER, "--stdin"]
    hub.run(["env", f"PYTHONPATH={SOURCES}", *command], text="correct horse\n")
    client.run(
        ["sh", "-c", "umask 077; cat > /run/credentials"], text=f'user = "{_USER}"\npassword = "correct horse"\n'
    )
    negotiate = ["--negotiation", "server"]
    pool = ["--pool-network", _POOL, "--push-route", "10.77.0.0/16"]
    auth = ["--auth", "key", "--auth", "password", "--users", "/run/users"]
    out = ["--masquerade"] if options.mode == "tun" else []
    world = ["--gateway", "--kill-switch"] if options.mode == "tun" else []
    peer = f"{keys[1]},name=alice"
    come = ["--connect", "10.99.0.1:4500", "--peer", keys[0], "--credentials", "/run/credentials"]
    ends = (
        start(options, hub, "--listen", ":4500", "--peer", peer, *negotiate, *pool, *auth, *rules, *out),
        start(options, client, *come, *negotiate, *rules, *world),
    )
    return Place(client, receiver, address, ends)


def hosts(lab: Lab, mode: str) -> tuple[Host, Host, Host, str, list[str]]:
    """Client, hub, and who receives, with the address; the public keys of hub and client."""
    client, hub = (lab.host(name, private=["/run"]) for name in ("client", "hub"))
    lab.link(hub, client, left=["10.99.0.1/24"], right=["10.99.0.2/24"])
    keys = [keyed(hub), keyed(client)]
    if mode == "tap":
        return client, hub, hub, "10.88.0.1", keys
    web = lab.host("web")
    lab.link(hub, web, left=["1.1.1.2/24"], right=[f"{_WEB}/24"])
    return client, hub, web, _WEB, keys


def start(options: argparse.Namespace, host: Host, *arguments: str) -> subprocess.Popen[bytes]:
    """One end."""
    more = ["--no-offload"] if options.no_offload else []
    return tunnel(host, options.mode, *arguments, *more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mode", default="tap", choices=("tap", "tun"))
    parser.add_argument("--hub", action="store_true")
    parser.add_argument("--no-offload", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        places = [make(stack.enter_context(Lab()), options) for make in (bare, with_all)]
        for place in places:
            wait_until_reached(place.client, place.address)
        rounds = [[place.measure(options.seconds) for place in places] for _ in range(options.rounds)]
    for unit, number in (("Mbit/s", 0), ("s of processors a GB", 1)):
        one, other = (statistics.median(each[place][number] for each in rounds) for place in (0, 1))
        ratio = statistics.median(second[number] / first[number] for first, second in rounds)
        print(f"{options.mode}: {one:,.2f} {unit} bare, {other:,.2f} with all services: {ratio:.2f}")


if __name__ == "__main__":
    main()
