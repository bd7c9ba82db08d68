"""A host joins a hub by a line that another command has printed, and the hub is not started again for it."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import caetun
from caetun.lab import Host, Lab
from caetun.session.identity import public_key
from tests.tunnel.ends import PATIENCE, End, await_ping, ping, write

pytestmark = pytest.mark.needs("namespaces", "tun", "ping")

HUB = """
mode = "{mode}"
dev = "{mode}0"
listen = ":4500"
transport = "udp,tcp"
public = ["10.99.0.1:4500", "10.99.1.1:4500"]
key = "key"
negotiation = "server"
[pool]
network = "10.88.0.0/24"
"""
_STATE = {"STATE_DIRECTORY": "/run/caetun-state", "RUNTIME_DIRECTORY": "/run/caetun"}


def command(host: Host, *arguments: str) -> tuple[int, str, str]:
    """Run a `caetun` command: its exit status, output and errors."""
    process = host.spawn(
        [sys.executable, "-m", "caetun", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        environment={"PYTHONPATH": str(Path(caetun.__file__).parents[1]), **_STATE},
    )
    out, err = process.communicate(timeout=60)
    return process.returncode, out.decode(), err.decode()


class Hub:
    """A hub and two hosts that do not know it yet."""

    def __init__(self, lab: Lab, mode: str) -> None:
        self.mode = mode
        self.host = lab.host("hub", private=["/run"])
        self.guests = [lab.host(name, private=["/run"]) for name in ("alice", "bob")]
        for number, guest in enumerate(self.guests):
            lab.link(self.host, guest, left=[f"10.99.{number}.1/24"], right=[f"10.99.{number}.2/24"])
        key = os.urandom(32)
        self.public = base64.b64encode(public_key(key)).decode()
        write(self.host, "/run/key", base64.b64encode(key).decode() + "\n")
        write(self.host, "/run/hub.toml", HUB.format(mode=mode))
        self.ends: list[End] = []
        self.end = self.start()

    def start(self) -> End:
        self.end = End(self.host, "--config", "/run/hub.toml")
        self.end.wait_for("start")
        return self.end

    def invite(self, name: str, *more: str) -> str:
        status, out, err = command(self.host, "invite", name, "--config", "/run/hub.toml", *more)
        assert (status, err) == (0, "")
        assert re.fullmatch(rf"caetun://join\?to=\S+&hub=\S+&token=\S+&name={name}&mode={self.mode}\n", out)
        return out.strip()

    def join(self, number: int, line: str) -> tuple[int, str, str]:
        return command(self.guests[number], "join", line, "-o", "/run/me.toml")

    def run(self, number: int) -> End:
        end = End(self.guests[number], "--config", "/run/me.toml", "--dev", f"{self.mode}0", "--keepalive", "1")
        self.ends.append(end)
        end.wait_for("negotiation.configured")
        return end

    def stop(self) -> None:
        for end in (*self.ends, self.end):
            if end.process.poll() is None:
                assert end.stop() == 0


@pytest.fixture(params=["tap"])
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    with Lab() as lab:
        made = Hub(lab, request.param)
        yield made
        made.stop()


@pytest.mark.parametrize("hub", [pytest.param("tap", marks=pytest.mark.slow), "tun"], indirect=True)
def test_two_hosts_are_invited_join_and_reach_each_other(hub: Hub) -> None:
    for number, name in enumerate(("alice", "bob")):
        status, out, err = hub.join(number, hub.invite(name))
        assert (status, err) == (0, "")
        assert out == "/run/me.toml is all it takes: caetun --config /run/me.toml\n"
        assert hub.guests[number].inside(lambda: os.stat("/run/me.toml").st_mode & 0o777) == 0o600
        hub.run(number)
    assert [event["message"] for event in hub.end.events("enrolment.joined")] == ["alice has joined", "bob has joined"]
    await_ping(hub.guests[0], "10.88.0.1")
    await_ping(hub.guests[0], "10.88.0.3")
    # Killed: both are still known, with their addresses.
    hub.end.stop(signal.SIGKILL)
    hub.start()
    hub.end.wait_for("negotiation.applied", 2, seconds=60)
    await_ping(hub.guests[1], "10.88.0.2")
    # Expelled: gone at once, and silence from then on.
    assert command(hub.host, "expel", "bob", "--config", "/run/hub.toml")[0] == 0
    down = hub.end.wait_for("peer.down")
    assert (down["peer"], down["message"]) == ("bob", "down: expelled")
    assert ping(hub.guests[1], "10.88.0.1", count=1, wait=0.5) == 0
    await_ping(hub.guests[0], "10.88.0.1")  # whose device has another MAC address since it was killed
    status, out, _ = command(hub.host, "show", "members", "--json")
    assert status == 0
    assert json.loads(out) == [{"name": "alice", "state": "member", "up": "yes", "expires in s": ""}]


def test_an_invitation_is_good_once_even_if_the_hub_is_killed_in_between(hub: Hub) -> None:
    line = hub.invite("alice")
    assert hub.join(0, line)[0] == 0
    hub.end.stop(signal.SIGKILL)
    hub.start()
    status, _, err = hub.join(1, line)
    assert (status, err) == (3, "caetun: the hub refuses: this invitation was used already: ask for another one\n")
    assert hub.guests[1].inside(lambda: os.path.exists("/run/me.toml")) is False
    denied = hub.end.wait_for("enrolment.denied")
    assert denied["message"] == "alice: this invitation was used already: ask for another one"


def test_an_invitation_that_has_expired_says_so(hub: Hub) -> None:
    import sqlite3

    line = hub.invite("alice", "--expires", "60")
    path = hub.host.inside(lambda: str(next(Path("/run/caetun-state").glob("hub-*.sqlite"))))

    def age() -> None:
        with sqlite3.connect(path, timeout=5) as db:
            db.execute("UPDATE invitation SET expires = expires - 61")

    hub.host.inside(age)
    status, _, err = hub.join(0, line)
    assert (status, err) == (3, "caetun: the hub refuses: this invitation has expired: ask for another one\n")


def test_an_invitation_is_for_enrolment_only(hub: Hub) -> None:
    line = hub.invite("alice")
    token = re.search("token=([^&]+)", line)
    assert token is not None
    key = base64.b64encode(base64.urlsafe_b64decode(token[1] + "=")).decode()
    write(hub.guests[0], "/run/key", key + "\n")
    where = ["--connect", "10.99.0.1:4500", "--key", "/run/key", "--peer", hub.public]
    end = End(hub.guests[0], "--mode", "tap", "--dev", "tap0", "--address", "10.88.0.9/24", *where)
    hub.ends.append(end)
    end.wait_for("peer.up")
    assert ping(hub.guests[0], "10.88.0.1", wait=0.5) == 0
    assert hub.end.drops()["peer.held"] > 0


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("caetun://join?to=udp://10.99.0.1:4500", "the invitation is not complete"),
        ("https://hub.example", "not an invitation"),
    ],
)
def test_what_is_no_invitation(hub: Hub, line: str, what: str) -> None:
    status, _, err = hub.join(0, line)
    assert status == 2
    assert what in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_token_that_the_hub_does_not_know_is_met_with_silence(hub: Hub) -> None:
    line = re.sub(
        "token=[^&]+", "token=" + base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("="), hub.invite("a")
    )
    status, _, err = hub.join(0, line)
    assert status == 4
    assert err.startswith("caetun: no answer from the hub within 30 s (udp 10.99.0.1:4500")
    assert PATIENCE < 30
