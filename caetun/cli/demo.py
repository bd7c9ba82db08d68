"""`caetun demo`: two hosts on this machine, a tunnel between them, and what it carries.

1. `run` gets namespaces (as an ordinary user through a user namespace) and says at once what is missing.
2. `_show` makes two hosts and a cable, and starts one `caetun` in each: one listens, the other connects.
3. `_measure` waits for the tunnel, then pings, sends TCP both ways and a burst of UDP through it.
4. `_report` prints what came of it.

Nothing of it touches the machine's own network, and nothing is left when it ends.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import caetun
from caetun.errors import ConfigurationError, HostError
from caetun.lab import Host, Lab, Port, become_root, needs
from caetun.lab.traffic import burst, ping, stream
from caetun.types import Mode

# -- chosen by us --
_OUTER = {"client": "10.99.0.1", "server": "10.99.0.2"}
_INNER = {"client": "10.88.0.1", "server": "10.88.0.2"}
_PORT = 4500
_TRANSPORT = "udp"
_SECRET_FILE = "/run/demo.secret"  # /run is the host's own, in memory
_START = 15.0  # seconds until the first answer through the tunnel
_STOP = 5.0  # seconds for a daemon to end after SIGTERM
_COUNTERS = 2.0  # seconds for a daemon to print its counters after SIGUSR1
_POLL = 0.05  # seconds
_PINGS = 20
_BURST_COUNT, _BURST_SIZE = 5_000, 1_000  # datagrams, bytes
_BURST_LEAST = 0.5  # share that must arrive; two small cores may well drop some of a burst
_SECONDS = 3.0  # of TCP in each direction


@dataclass(frozen=True, slots=True)
class Result:
    """What one tunnel did."""

    device: str
    transport: str
    rtt: float
    """Seconds, median."""
    up: float
    """Bits per second of TCP payload, from the client to the server."""
    down: float
    burst_sent: int
    burst_received: int
    datagrams: int
    """Packets on the outer cable, both directions; a burst the kernel sends in one piece counts as one."""
    drops: int
    """Everything either daemon threw away, for any reason."""


class _Daemon:
    """One `caetun` in one host, and its log."""

    def __init__(self, host: Host, arguments: Sequence[str]) -> None:
        self._host = host
        self._log = os.memfd_create("log")  # a file without a name: nothing to remove
        command = [sys.executable, "-m", "caetun", *arguments, "-v", "--log-format", "json"]
        path = os.pathsep.join([str(Path(caetun.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        self._process = host.spawn(
            command, stdout=self._log, stderr=self._log, environment={"PYTHONPATH": path.rstrip(os.pathsep)}
        )

    def check(self) -> None:
        """Raise HostError if it has ended."""
        if self._process.poll() is not None:
            raise HostError(f"the {self._host.name} ended: {self._last_words()}")

    def drops(self) -> int:
        """Ask for the counters and return how much was thrown away."""
        before = len(self._counters())
        self._process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + _COUNTERS
        while time.monotonic() < deadline:
            self.check()
            if len(counters := self._counters()) > before:
                drops = counters[-1].get("drops", {})
                return sum(drops.values()) if isinstance(drops, dict) else int(drops)
            time.sleep(_POLL)
        raise HostError(f"the {self._host.name} does not print its counters on SIGUSR1")

    def stop(self) -> None:
        """End it as a service manager would. Raises HostError if it does not end well."""
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(_STOP)
        except subprocess.TimeoutExpired as error:
            raise HostError(f"the {self._host.name} still runs {_STOP:g} s after SIGTERM") from error
        if status:
            raise HostError(f"the {self._host.name} ended with exit status {status}: {self._last_words()}")
        os.close(self._log)

    def _lines(self) -> list[str]:
        # pread, because the daemon writes at the file position that we share with it
        size = os.fstat(self._log).st_size
        text = os.pread(self._log, size, 0).decode(errors="replace")
        return text[: text.rfind("\n") + 1].splitlines()  # the last line may still be being written

    def _counters(self) -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in self._lines() if line.startswith("{")]
        return [entry for entry in entries if entry.get("event") == "counters"]

    def _last_words(self) -> str:
        lines = [line for line in self._lines() if line.strip()]
        if not lines:
            return "it said nothing"
        if lines[-1].startswith("{"):
            return str(json.loads(lines[-1])["message"])
        return lines[-1].removeprefix("caetun: ")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `caetun demo`."""
    modes = [str(mode) for mode in Mode]
    parser.add_argument("--mode", choices=modes, help="device to show: IP packets or Ethernet frames (default: both)")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="TCP in each direction (default: %(default)g)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, progress to standard error")


def run(arguments: argparse.Namespace) -> int:
    """Do it; return the exit status, which is 0. Raises CaeTunError if anything did not work."""
    if arguments.seconds <= 0:
        raise ConfigurationError(f"--seconds must be more than 0, not {arguments.seconds:g}")
    become_root()
    if missing := needs("namespaces", "tun"):
        raise HostError(missing)
    progress = sys.stderr if arguments.json else sys.stdout
    modes = [Mode(arguments.mode)] if arguments.mode else list(Mode)
    results = [_show(mode, arguments.seconds, progress) for mode in modes]
    print(json.dumps([asdict(result) for result in results], indent=2) if arguments.json else _table(results))
    return 0


def _show(mode: Mode, seconds: float, progress: TextIO) -> Result:
    """Build one tunnel, measure it, take it down."""
    with Lab() as lab:
        print(f"{mode}: two hosts and a cable", file=progress, flush=True)
        hosts = {name: lab.host(name, private=["/run"]) for name in ("client", "server")}
        ends = lab.link(
            hosts["client"], hosts["server"], left=[f"{_OUTER['client']}/24"], right=[f"{_OUTER['server']}/24"]
        )
        secret = base64.b64encode(secrets.token_bytes(32)).decode() + "\n"
        where = f"{_OUTER['server']}:{_PORT}"
        daemons = []
        for name, role in (("server", ["--listen", where]), ("client", ["--connect", where])):
            hosts[name].inside(lambda: _write_private(_SECRET_FILE, secret))
            device = ["--mode", str(mode), "--dev", _device(mode), "--address", f"{_INNER[name]}/24"]
            daemons.append(_Daemon(hosts[name], [*role, *device, "--secret-file", _SECRET_FILE]))
        print(f"{mode}: caetun listens on {where} of the server, the client connects", file=progress, flush=True)
        result = _measure(mode, daemons, ends, seconds, progress)
        for daemon in daemons:
            daemon.stop()
    return result


def _measure(mode: Mode, daemons: list[_Daemon], ends: tuple[Port, Port], seconds: float, progress: TextIO) -> Result:
    """Send everything through the tunnel. Raises HostError if something does not get through."""

    def say(text: str) -> None:
        print(f"{mode}: {text}", file=progress, flush=True)

    client, server = (end.host for end in ends)
    _await_tunnel(client, daemons)
    say("the tunnel is up")
    before = _packets(ends[0])
    times = ping(client, _INNER["server"], count=_PINGS)
    if len(times) < _PINGS:
        raise HostError(f"only {len(times)} of {_PINGS} pings came back")
    say(f"ping: {len(times)} answers, {_time(statistics.median(times))}")
    up = stream(client, server, _INNER["server"], seconds)
    say(f"TCP up: {up.octets:,} bytes, all as sent, {_rate(up.rate)}")
    down = stream(server, client, _INNER["client"], seconds)
    say(f"TCP down: {down.octets:,} bytes, all as sent, {_rate(down.rate)}")
    received = burst(client, server, _INNER["server"], count=_BURST_COUNT, size=_BURST_SIZE)
    say(f"UDP: {received:,} of {_BURST_COUNT:,} datagrams arrived")
    if received < _BURST_LEAST * _BURST_COUNT:
        raise HostError(f"only {received:,} of {_BURST_COUNT:,} UDP datagrams arrived")
    return Result(
        device=str(mode),
        transport=_TRANSPORT,
        rtt=statistics.median(times),
        up=up.rate,
        down=down.rate,
        burst_sent=_BURST_COUNT,
        burst_received=received,
        datagrams=_packets(ends[0]) - before,
        drops=sum(daemon.drops() for daemon in daemons),
    )


def _await_tunnel(client: Host, daemons: list[_Daemon]) -> None:
    """Ping until the first answer."""
    deadline = time.monotonic() + _START
    while not ping(client, _INNER["server"], timeout=_POLL):
        for daemon in daemons:
            daemon.check()
        if time.monotonic() > deadline:
            raise HostError(f"no answer through the tunnel within {_START:g} s")


def _packets(end: Port) -> int:
    counters = end.counters()
    return counters.received_packets + counters.sent_packets


def _device(mode: Mode) -> str:
    return f"{mode}0"


def _write_private(path: str, text: str) -> None:
    """Write a file that only its owner may read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)


def _table(results: list[Result]) -> str:
    """Lay the results out in aligned columns."""
    rows = [("device", "transport", "RTT", "TCP up", "TCP down", "UDP burst", "datagrams", "drops")]
    rows += [
        (
            result.device,
            result.transport,
            _time(result.rtt),
            _rate(result.up),
            _rate(result.down),
            f"{result.burst_received:,} of {result.burst_sent:,}",
            f"{result.datagrams:,}",
            f"{result.drops:,}",
        )
        for result in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(["", *lines])


def _rate(bits_per_second: float) -> str:
    giga = bits_per_second / 1e9
    return f"{giga:.2f} Gbit/s" if giga >= 1 else f"{giga * 1000:.0f} Mbit/s"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
