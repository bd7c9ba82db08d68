"""A thousand wrong passwords at a hub that runs: what is told, who is kept out and who is not, and what it costs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

import pytest

from caetun.auth.limit import FAILURES
from caetun.lab import Lab
from caetun.types import DropReason
from tests.simulator import key_of
from tests.tunnel.ends import PATIENCE, End, await_ping, write
from tests.tunnel.guesser import HUB, Guesser
from tests.tunnel.test_authentication import Hub, credentials, users_file

pytestmark = pytest.mark.needs("namespaces", "tun", "ping", "ip")

PASSWORDS: Final = {"alice": "correct horse", "bob": "battery staple", "carol": "paper clip"}
LIMITED: Final = re.compile(r"wait \d+ s")
WRONG: Final = "wrong user, password or code"
_GUESSERS: Final = 10
"""Addresses from which somebody guesses. Under load a hub takes five handshakes a second from each, which is half of
what it takes in all: so the others get theirs."""
_GUESSES: Final = 1000
_CHECKED: Final = FAILURES + 8
"""Of which so many are looked at: the pause after the eighth one too many is longer than this test."""
_GROWTH: Final = 16 << 20
"""Bytes of memory that guesses may cost."""
_LINES: Final = 200
"""That they may cost in the hub's log."""
_REFUSED: Final = 5
"""Exit status."""


@pytest.fixture
def hub(lab: Lab) -> Iterator[Hub]:
    """A hub with three users; strangers are at site 0, each with an address of his own."""
    hub = Hub(lab, 3)
    hub.key = key_of(HUB)
    for number in range(_GUESSERS):
        hub.sites[0].run(["ip", "address", "add", f"10.99.0.{100 + number}/24", "dev", "eth0"])
    hub.start("--auth", "password", "--users", write(hub.host, "/run/users", users_file(PASSWORDS)))
    yield hub
    assert hub.end.stop() == 0


def comes(hub: Hub, number: int, user: str, key: bytes) -> End:
    """A client of a user that is let in."""
    end = hub.call(number, credentials=credentials(user, PASSWORDS[user]), key=key)
    assert end.wait_for("auth.accepted")["message"] == f"accepted as {user}"
    await_ping(hub.sites[number], "10.88.0.1")
    return end


def tries(hub: Hub, user: str, password: str) -> str:
    """What a client at site 0 prints last, with a key that nobody knows."""
    status, said = hub.call(0, credentials=credentials(user, password)).ended()
    assert status == _REFUSED, said
    return said.splitlines()[-1]


def guesses(hub: Hub, number: int) -> Counter[str]:
    """What a stranger is told who guesses, with one client after the other."""
    with closing(
        Guesser(hub.sites[0], f"10.99.0.{100 + number}", ("10.99.0.1", 4500), f"stranger {number}")
    ) as guesser:
        return Counter(
            guesser.guess({"user": "alice", "password": f"guess {number} {turn}"})
            for turn in range(_GUESSES // _GUESSERS)
        )


def test_a_thousand_wrong_passwords(hub: Hub) -> None:
    alices = os.urandom(32)
    bob = comes(hub, 1, "bob", os.urandom(32))
    traffic = hub.sites[1].spawn(["ping", "-q", "-i", "0.1", "10.88.0.1"], stdout=subprocess.PIPE)
    assert comes(hub, 2, "alice", alices).stop() == 0
    assert tries(hub, "alice", "mistaken") == f"caetun: authentication refused: {WRONG}"
    memory, lines = hub.end.memory(), len(hub.end.events())
    with ThreadPoolExecutor(_GUESSERS) as pool:
        storm = [pool.submit(guesses, hub, number) for number in range(_GUESSERS)]
        with closing(Guesser(hub.sites[2], "10.99.2.2", ("10.99.2.1", 4500), "carol")) as carol:
            assert carol.guess({"user": "carol", "password": PASSWORDS["carol"]}) == "accepted as carol"
        alice = comes(hub, 2, "alice", alices)
        assert not any(each.done() for each in storm), "all that while strangers were guessing"
        told = sum((each.result() for each in storm), Counter[str]())
    assert told.total() == _GUESSES
    assert {LIMITED.sub("wait N s", text) for text in told} == {WRONG, "too many attempts: wait N s"}
    assert told[WRONG] <= _CHECKED
    last = tries(hub, "alice", PASSWORDS["alice"])
    assert LIMITED.sub("wait N s", last) == "caetun: authentication refused: too many attempts: wait N s", "a new key"

    drops = hub.end.drops()
    assert drops[DropReason.AUTH_REFUSED] == told[WRONG] + 1
    assert drops[DropReason.AUTH_LIMITED] == _GUESSES - told[WRONG] + 1
    assert hub.end.memory() - memory < _GROWTH
    assert len(hub.end.events()) - lines < _LINES
    said = hub.end.said()
    assert not any(text in said for text in ("guess ", "mistaken", *PASSWORDS.values()))
    traffic.send_signal(signal.SIGINT)
    sent, received = re.findall(
        r"(\d+) (?:packets transmitted|received)", traffic.communicate(timeout=PATIENCE)[0].decode()
    )
    assert int(received) > 0.97 * int(sent), "those under way at the end are lost"
    assert not bob.events("peer.down")
    assert (alice.stop(), bob.stop()) == (0, 0)
