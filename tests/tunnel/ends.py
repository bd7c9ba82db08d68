"""Two hosts of a Lab, a `caetun` process in each, and what it says: what tests of the whole program are written with.

    with Lab() as lab:
        hosts = two_hosts(lab)
        one, other = (End(host, *arguments) for host, arguments in zip(hosts, tunnel_arguments(hosts), strict=True))
        one.wait_for("peer.up")

The hosts meet outside as 10.99.0.1 and .2 (2001:db8:99::1 and ::2), inside the tunnel as 10.88.0.1 and .2 (fd88::1
and ::2). The first one listens, the second connects.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import caetun
from caetun.lab import Cable, Host, Lab
from caetun.session.identity import public_key

OUTER4: Final = ("10.99.0.1", "10.99.0.2")
OUTER6: Final = ("2001:db8:99::1", "2001:db8:99::2")
INNER4: Final = ("10.88.0.1", "10.88.0.2")
INNER6: Final = ("fd88::1", "fd88::2")
PORT: Final = 4500

# chosen by us
PATIENCE: Final = 20.0
"""Seconds after which something that should have happened has not; far more than it takes on an idle machine."""
_POLL: Final = 0.02
"""Seconds between two looks at a log."""
_AT_ONCE: Final = 3
"""Echo requests that anybody may send without a pause between them."""
_ORDINARY: Final = {"start", "peer.up", "path.mtu", "counters"}
_STATE: Final = "/run/caetun-state"
RUNTIME: Final = "/run/caetun"
"""Hosts have a /run of their own: nothing of this machine's is touched, and two tunnels may have one device name."""
SOURCES: Final = str(Path(caetun.__file__).parents[1])

KeyMaker: TypeAlias = Callable[[Sequence[Host]], list[list[str]]]
"""Makes keys for two hosts; returns the arguments that each one needs."""


class End:
    """One `caetun` process in one host."""

    def __init__(
        self,
        host: Host,
        *arguments: str,
        command: Sequence[str] = (sys.executable, "-m", "caetun"),
        path: str = SOURCES,
    ) -> None:
        """Starts it with these arguments and a log in JSON; `path`: its PYTHONPATH."""
        self.host = host
        self._log = os.memfd_create("log")  # a file without a name: nothing to remove
        self.process: subprocess.Popen[bytes] = host.spawn(
            [*command, *arguments, "--log-format", "json"],
            stdout=self._log,
            stderr=self._log,
            environment={"PYTHONPATH": path, "STATE_DIRECTORY": _STATE, "RUNTIME_DIRECTORY": RUNTIME},
        )

    def __del__(self) -> None:
        os.close(self._log)

    # what it says

    def said(self) -> str:
        """Everything so far."""
        # pread, because the process writes at the file position that we share with it
        return os.pread(self._log, os.fstat(self._log).st_size, 0).decode()

    def events(self, *names: str) -> list[dict[str, Any]]:
        """The events so far, all or those of these names. Fails if it said anything that is no event."""
        lines = self.said().rpartition("\n")[0].splitlines()  # the last line may still be being written
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [event for event in events if not names or event["event"] in names]

    def troubles(self) -> list[dict[str, Any]]:
        """The events that a tunnel which comes up once, and stays up, does not have."""
        return [
            event
            for event in self.events()
            if event["event"] not in _ORDINARY
            and not (event["event"] == "ladder" and event["message"].startswith("up via"))
        ]

    def wait_for(self, name: str, count: int = 1, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait until an event has occurred `count` times; returns the last one."""
        deadline = time.monotonic() + seconds
        while len(events := self.events(name)) < count:
            assert self.process.poll() is None, f"it has ended: {self.said()}"
            assert time.monotonic() < deadline, f"no {name} within {seconds:g} s: {self.said()}"
            time.sleep(_POLL)
        return events[-1]

    def counters(self) -> dict[str, Any]:
        """What it has counted so far, on SIGUSR1."""
        before = len(self.events("counters"))
        self.process.send_signal(signal.SIGUSR1)
        return self.wait_for("counters", before + 1)

    def drops(self) -> dict[str, int]:
        """What it has dropped so far: reason -> times."""
        return dict(self.counters()["drops"])

    def memory(self) -> int:
        """Resident bytes (proc_pid_status(5), VmRSS)."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("it has no memory: it has ended")

    # how it ends

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal; returns the exit status, negative if the signal itself ended it."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def ended(self) -> tuple[int, str]:
        """Wait until it ends by itself: exit status and everything it said."""
        return self.process.wait(PATIENCE), self.said()


# hosts


def two_hosts(lab: Lab, cable: Cable = Cable()) -> tuple[Host, Host]:  # noqa: B008 - frozen
    """Two connected hosts, each with a /run and a /dev/net of its own."""
    one, other = lab.host("one", private=["/run"]), lab.host("other", private=["/run"])
    lab.link(
        one,
        other,
        left=[f"{OUTER4[0]}/24", f"{OUTER6[0]}/64"],
        right=[f"{OUTER4[1]}/24", f"{OUTER6[1]}/64"],
        cable=cable,
    )
    return one, other


def write(host: Host, path: str, text: str, mode: int = 0o600) -> str:
    """Write a file in a private directory of a host, over what was there; returns its path."""

    def work() -> None:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
            file.write(text)

    host.inside(work)
    return path


def devices(host: Host) -> set[str]:
    """The names of its interfaces, less those of cables and the loopback."""
    names = host.inside(lambda: [name for _, name in socket.if_nameindex()])
    return {name for name in names if name != "lo" and not name.startswith("eth")}


# arguments


def secret_arguments(hosts: Sequence[Host]) -> list[list[str]]:
    """A new secret for two hosts: the arguments that each one needs."""
    text = base64.b64encode(os.urandom(32)).decode() + "\n"
    return [["--secret-file", write(host, "/run/secret", text)] for host in hosts]


def key_arguments(hosts: Sequence[Host]) -> list[list[str]]:
    """New key pairs for two hosts: the arguments that each one needs."""
    private = [os.urandom(32) for _ in hosts]
    public = [base64.b64encode(public_key(key)).decode() for key in private]
    files = [
        write(host, "/run/key", base64.b64encode(key).decode() + "\n") for host, key in zip(hosts, private, strict=True)
    ]
    return [["--key", file, "--peer", peer] for file, peer in zip(files, reversed(public), strict=True)]


def endpoint(address: str, port: int = PORT) -> str:
    """As `--listen` and `--connect` take it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def device_arguments(number: int, mode: str = "tun") -> list[str]:
    """What makes `tun0` or `tap0` with the inner addresses of host 0 or 1."""
    addresses = ["--address", f"{INNER4[number]}/24", "--address", f"{INNER6[number]}/64"]
    return ["--mode", mode, "--dev", f"{mode}0", *addresses]


def tunnel_arguments(
    hosts: Sequence[Host], mode: str = "tun", outer: Sequence[str] = OUTER4, keys: KeyMaker = secret_arguments
) -> list[list[str]]:
    """All the arguments of both ends of an ordinary tunnel."""
    where = [["--listen", endpoint(outer[0])], ["--connect", endpoint(outer[0])]]
    made = keys(hosts)
    return [[*where[number], *device_arguments(number, mode), *made[number]] for number in (0, 1)]


def start(hosts: Sequence[Host], arguments: Sequence[Sequence[str]]) -> tuple[End, End]:
    """Start both ends and wait until each has heard from the other."""
    one, other = (End(host, *each) for host, each in zip(hosts, arguments, strict=True))
    for end in (one, other):
        end.wait_for("peer.up")
    return one, other


# traffic


def ping(host: Host, address: str, *, count: int = 3, size: int = 56, interval: float = 0.01, wait: float = 2.0) -> int:
    """Send echo requests with `size` bytes of data, `interval` seconds apart; returns how many were answered.

    Up to three are sent at once. `wait`: seconds for the last answer.
    """
    command = ["ping", "-n", "-q", "-c", str(count), "-W", str(wait), "-s", str(size), address]
    if count <= _AT_ONCE:
        # Once something has been answered, ping waits for the rest no longer than its interval, whatever -W says.
        command += ["-l", str(count), "-i", str(max(wait, 1.0))]
    else:
        command += ["-i", str(interval)]
    process = host.spawn(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    output = process.communicate(timeout=PATIENCE + count * interval)[0].decode()
    return int(output.partition(" received")[0].rpartition(" ")[2] or 0) if " received" in output else 0


def await_ping(host: Host, address: str, seconds: float = PATIENCE) -> None:
    """Ping until the first answer."""
    deadline = time.monotonic() + seconds
    while not ping(host, address, count=1, wait=0.2):
        assert time.monotonic() < deadline, f"no answer from {address} within {seconds:g} s"
