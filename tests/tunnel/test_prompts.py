"""Who is asked at the terminal: a client that has one of its own, of which the test holds the other end."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
from collections.abc import Iterator
from typing import Final

import pytest

from caetun.auth.totp import totp
from caetun.lab import Lab
from tests.tunnel.ends import PATIENCE, End, await_ping, write
from tests.tunnel.test_authentication import SECRETS, Hub, users_file

pytestmark = pytest.mark.needs("namespaces", "tun", "ping", "ip")

_AT_TERMINAL: Final = """
import contextlib, os, sys
with contextlib.suppress(PermissionError):  # it leads a session already
    os.setsid()
os.open(sys.argv[1], os.O_RDWR)  # the first terminal that a session leader opens is its own: tty(4)
os.execv(sys.argv[2], sys.argv[2:])
"""
_USAGE: Final = 2
_REFUSED: Final = 5
"""Exit statuses."""


class Client:
    """A client without a file of credentials, and its terminal."""

    def __init__(self, hub: Hub) -> None:
        self.keys, self._line = os.openpty()
        self.seen = ""
        command = [sys.executable, "-c", _AT_TERMINAL, os.ttyname(self._line), sys.executable, "-m", "caetun"]
        self.end: End = hub.call(0, command=command)

    def answer(self, prompt: str, keys: bytes, echoes: bool) -> None:
        """Type at a prompt."""
        deadline = time.monotonic() + PATIENCE
        while prompt not in self.seen:
            ready = select.select([self.keys], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"no {prompt!r} in {self.seen!r}: {self.end.said()}"
            self.seen += os.read(self.keys, 4096).decode()
        assert self.echoes is echoes, prompt
        os.write(self.keys, keys)

    @property
    def echoes(self) -> bool:
        """Whether what is typed is shown."""
        return bool(termios.tcgetattr(self._line)[3] & termios.ECHO)

    def screen(self) -> str:
        """All that was shown."""
        while select.select([self.keys], [], [], 0)[0]:
            self.seen += os.read(self.keys, 4096).decode()
        return self.seen

    def close(self) -> None:
        os.close(self.keys)
        os.close(self._line)


@pytest.fixture
def hub(lab: Lab) -> Iterator[Hub]:
    hub = Hub(lab)
    users = write(hub.host, "/run/users", users_file({"alice": "correct horse"}))
    hub.start("--auth", "password", "--auth", "totp", "--users", users)
    yield hub
    assert hub.end.stop() == 0


@pytest.fixture
def client(hub: Hub) -> Iterator[Client]:
    client = Client(hub)
    yield client
    client.close()


def test_user_password_and_code_are_asked_for_and_the_password_is_not_shown(hub: Hub, client: Client) -> None:
    client.answer("user for peer: ", b"alice\n", echoes=True)
    client.answer("password for peer: ", b"correct horse\n", echoes=False)
    code = totp(SECRETS["alice"], time.time())
    client.answer("code for peer: ", code.encode() + b"\n", echoes=True)
    assert client.end.wait_for("auth.accepted")["message"] == "accepted as alice"
    await_ping(hub.sites[0], "10.88.0.1")
    screen = client.screen()
    assert screen.split() == ["user", "for", "peer:", "alice", "password", "for", "peer:", "code", "for", "peer:", code]
    assert "horse" not in client.end.said() + hub.end.said()
    assert client.end.stop() == 0


def test_a_wrong_password_is_told(client: Client) -> None:
    client.answer("user for peer: ", b"alice\n", echoes=True)
    client.answer("password for peer: ", b"battery staple\n", echoes=False)
    client.answer("code for peer: ", b"000000\n", echoes=True)
    status, said = client.end.ended()
    assert (status, said.splitlines()[-1]) == (
        _REFUSED,
        "caetun: authentication refused: wrong user, password or code",
    )
    assert "staple" not in client.screen() + said


def test_ctrl_c_at_the_prompt_ends_it_and_leaves_the_terminal_as_it_was(client: Client) -> None:
    client.answer("user for peer: ", b"alice\n", echoes=True)
    client.answer("password for peer: ", b"correct", echoes=False)
    os.write(client.keys, b"\x03")
    status, said = client.end.ended()
    assert status == 0, said
    assert client.echoes
    assert "Traceback" not in said
    assert "correct" not in client.screen() + said
    assert client.screen().endswith("\r\n"), "what comes next begins a line"


def test_ctrl_d_at_the_prompt_is_no_answer(client: Client) -> None:
    client.answer("user for peer: ", b"alice\n", echoes=True)
    client.answer("password for peer: ", b"\x04", echoes=False)
    status, said = client.end.ended()
    assert (status, said.splitlines()[-1]) == (
        _USAGE,
        "caetun: --credentials: no password was typed: start again, or give a file with it",
    )
    assert client.echoes
