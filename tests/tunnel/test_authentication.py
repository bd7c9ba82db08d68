"""A hub that asks who calls: users and codes, programs, certificates; who stays out, and what he is told."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

import caetun
from caetun.auth.totp import encode_secret
from caetun.auth.users import User, hash_password
from caetun.lab import Lab
from caetun.session.identity import public_key
from tests.tunnel.certificates import Pki
from tests.tunnel.ends import PATIENCE, End, await_ping, ping, write
from tests.tunnel.show import show

pytestmark = pytest.mark.needs("namespaces", "tun", "ping", "ip")

SECRETS: Final = {"alice": bytes(range(20)), "bob": bytes(range(20, 40)), "carol": bytes(range(40, 60))}
_SOURCES: Final = str(Path(caetun.__file__).parents[1])
_REFUSED: Final = 5
"""Exit status."""


def users_file(passwords: dict[str, str]) -> str:
    lines = [
        User(name, hash_password(text, os.urandom, 1024), SECRETS[name]).line() for name, text in passwords.items()
    ]
    return "".join(f"{line}\n" for line in lines)


class Hub:
    """A hub that knows nobody's key, and hosts around it that know the hub's."""

    def __init__(self, lab: Lab, hosts: int = 1) -> None:
        self.host = lab.host("hub", private=["/run"])
        self.sites = [lab.host(f"site{number}", private=["/run"]) for number in range(hosts)]
        for number, site in enumerate(self.sites):
            lab.link(self.host, site, left=[f"10.99.{number}.1/24"], right=[f"10.99.{number}.2/24"])
        self.key = os.urandom(32)
        self.end: End

    def start(self, *auth: str, peers: Sequence[str] = ()) -> End:
        arguments = ["--mode", "tap", "--dev", "tap0", "--listen", ":4500", "--address", "10.88.0.1/24"]
        arguments += ["--key", write(self.host, "/run/key", encode(self.key)), *auth]
        self.end = End(self.host, *arguments, *peers)
        self.end.wait_for("start")
        return self.end

    def call(
        self,
        number: int,
        *more: str,
        credentials: str = "",
        address: bool = True,
        key: bytes | None = None,
        command: Sequence[str] = (sys.executable, "-m", "caetun"),
    ) -> End:
        site = self.sites[number]
        arguments = ["--mode", "tap", "--dev", "tap0", "--connect", f"10.99.{number}.1:4500"]
        arguments += ["--key", write(site, "/run/key", encode(key or os.urandom(32)))]
        arguments += ["--peer", base64.b64encode(public_key(self.key)).decode()]
        arguments += ["--address", f"10.88.0.{number + 2}/24"] if address else []
        if credentials:
            arguments += ["--credentials", write(site, "/run/credentials", credentials)]
        return End(site, *arguments, *more, command=command)


def encode(key: bytes) -> str:
    return base64.b64encode(key).decode() + "\n"


def credentials(user: str, password: str, secret: bytes | None = None) -> str:
    code = f'totp-secret = "{encode_secret(secret)}"\n' if secret else ""
    return f'user = "{user}"\npassword = "{password}"\n{code}'


def program(path: Path, text: str) -> str:
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o700)
    return str(path)


def test_two_users_come_in_with_password_and_code(lab: Lab) -> None:
    hub = Hub(lab, 2)
    users = write(hub.host, "/run/users", users_file({"alice": "correct horse", "bob": "battery staple"}))
    end = hub.start("--auth", "password", "--auth", "totp", "--users", users)
    alice = hub.call(0, credentials=credentials("alice", "correct horse", SECRETS["alice"]))
    bob = hub.call(1, credentials=credentials("bob", "battery staple", SECRETS["bob"]))
    assert alice.wait_for("auth.accepted")["user"] == "alice"
    assert bob.wait_for("auth.accepted")["message"] == "accepted as bob"
    end.wait_for("auth.accepted", 2)
    for number, other in ((0, 3), (1, 2)):
        await_ping(hub.sites[number], "10.88.0.1")
        assert ping(hub.sites[number], f"10.88.0.{other}") == 3
    # who is taken out of the file is sent away, the other one stays
    write(hub.host, "/run/users", users_file({"bob": "battery staple"}))
    end.process.send_signal(signal.SIGHUP)
    down = end.wait_for("peer.down")
    assert (down["peer"], down["message"]) == ("alice", "down: alice is not in the file of users any more")
    alice.process.wait(PATIENCE + 30)  # it calls again, maybe with the next code only,
    assert alice.ended()[0] == _REFUSED  # and is refused
    assert ping(hub.sites[1], "10.88.0.1") == 3
    assert "correct" not in end.said() + alice.said()
    assert (bob.stop(), end.stop()) == (0, 0)


def test_whatever_is_wrong_the_answer_is_the_same_and_too_often_is_told_others_do_not_notice(lab: Lab) -> None:
    hub = Hub(lab, 2)
    users = write(hub.host, "/run/users", users_file({"alice": "correct horse", "bob": "battery staple"}))
    end = hub.start("--auth", "password", "--auth", "totp", "--users", users)
    bob = hub.call(1, credentials=credentials("bob", "battery staple", SECRETS["bob"]))
    bob.wait_for("auth.accepted")
    await_ping(hub.sites[1], "10.88.0.1")
    traffic = hub.sites[1].spawn(["ping", "-q", "-i", "0.1", "10.88.0.1"], stdout=subprocess.PIPE)
    wrong = [
        ("alice", "mistaken", SECRETS["alice"]),
        ("nobody", "correct horse", SECRETS["alice"]),
        ("alice", "correct horse", SECRETS["bob"]),
    ]
    said: list[str] = []
    # On a busy machine the first pauses, of 2 and 4 s, are over before the next attempt is made.
    while len(said) < 10 and not any("too many attempts" in line for line in said):
        status, lines = hub.call(0, credentials=credentials(*wrong[len(said) % len(wrong)])).ended()
        assert status == _REFUSED
        said.append(lines.splitlines()[-1])
    assert len(said) > 5
    assert set(said[:-1]) == {"caetun: authentication refused: wrong user, password or code"}
    assert re.fullmatch(r"caetun: authentication refused: too many attempts: wait \d+ s", said[-1])
    assert end.wait_for("auth.refused")["message"].startswith("refused: wrong user, password or code (")
    assert end.wait_for("auth.limited")["message"].startswith("refused: too many attempts: wait ")
    for password in ("mistaken", "correct horse"):
        assert password not in end.said()
    traffic.send_signal(signal.SIGINT)
    assert " 0% packet loss" in traffic.communicate(timeout=20)[0].decode()
    assert not bob.events("peer.down")
    assert (bob.stop(), end.stop()) == (0, 0)


def test_frames_do_not_pass_before_the_answer(lab: Lab, tmp_path: Path) -> None:
    hub = Hub(lab)
    slow = program(tmp_path / "slow", "import time, sys\ntime.sleep(1)\n")
    end = hub.start("--auth", "command", "--auth-command", slow)
    caller = hub.call(0, credentials=credentials("carol", "x"))
    caller.wait_for("peer.up")
    assert ping(hub.sites[0], "10.88.0.1", wait=0.2) == 0
    assert end.drops()["peer.held"] > 0
    caller.wait_for("auth.accepted")
    await_ping(hub.sites[0], "10.88.0.1")
    assert (caller.stop(), end.stop()) == (0, 0)


def test_a_program_decides_and_names_the_user(lab: Lab, tmp_path: Path) -> None:
    hub = Hub(lab)
    text = (
        "import json, sys\nasked = json.load(sys.stdin)\nassert asked['version'] == 1\n"
        "if asked['password'] != 'sesame':\n    sys.exit(1)\n"
        "print(json.dumps({'user': asked['user'] + '@' + asked['address']}))\n"
    )
    end = hub.start("--auth", "command", "--auth-command", program(tmp_path / "decide", text))
    status, said = hub.call(0, credentials=credentials("carol", "simsim")).ended()
    assert (status, said.splitlines()[-1]) == (_REFUSED, "caetun: authentication refused: wrong user, password or code")
    caller = hub.call(0, credentials=credentials("carol", "sesame"))
    assert caller.wait_for("auth.accepted")["user"] == "carol@10.99.0.2"
    await_ping(hub.sites[0], "10.88.0.1")
    # shut out by hand
    command = ["env", f"PYTHONPATH={_SOURCES}", "RUNTIME_DIRECTORY=/run/caetun", sys.executable, "-m", "caetun"]
    assert "1 session(s) ended" in hub.host.run([*command, "revoke", "carol@10.99.0.2"])
    assert end.wait_for("peer.down")["message"] == "down: revoked"
    status, said = caller.ended()
    assert (status, said.splitlines()[-1]) == (_REFUSED, "caetun: authentication refused: access revoked")
    assert end.stop() == 0


def test_a_certificate_beside_a_key(lab: Lab) -> None:
    hub, pki, foreign = Hub(lab, 2), Pki(), Pki()
    pki.issue("alice")
    foreign.issue("alice")
    end = hub.start("--auth", "certificate", "--ca", write(hub.host, "/run/ca.crt", pki.read("ca.crt")))
    files = []
    for site, each in zip(hub.sites, (pki, foreign), strict=True):
        cert, key = (write(site, f"/run/alice.{part}", each.read(f"alice.{part}")) for part in ("crt", "key"))
        files.append(["--cert", cert, "--cert-key", key])
    caller = hub.call(0, *files[0])
    assert caller.wait_for("auth.accepted")["user"] == "alice"
    await_ping(hub.sites[0], "10.88.0.1")
    status, said = hub.call(1, *files[1]).ended()
    words = "caetun: authentication refused: its certificate is of an unknown authority: compare --ca of both sides"
    assert (status, said.splitlines()[-1]) == (_REFUSED, words)
    assert (caller.stop(), end.stop()) == (0, 0)


def test_any_certificate_of_the_authority_comes_in_with_tls(lab: Lab) -> None:
    hub, pki = Hub(lab), Pki()
    for name in ("hub", "dora"):
        pki.issue(name)
    mode = ["--mode", "tap", "--dev", "tap0"]
    own = pki.give(hub.host, "hub", "nobody")
    own = [*own[:2], *own[4:]]  # names no peer
    end = End(hub.host, *mode, "--listen", ":4500", "--address", "10.88.0.1/24", "--auth", "certificate", *own)
    end.wait_for("start")
    where = ["--connect", "10.99.0.1:4500", "--address", "10.88.0.2/24"]
    caller = End(hub.sites[0], *mode, *where, *pki.give(hub.sites[0], "dora", "hub"))
    assert end.wait_for("auth.accepted")["user"] == "dora"
    await_ping(hub.sites[0], "10.88.0.1")
    assert (caller.stop(), end.stop()) == (0, 0)


def test_without_credentials_and_terminal_it_says_what_is_missing(lab: Lab) -> None:
    hub = Hub(lab)
    users = write(hub.host, "/run/users", users_file({"alice": "correct horse"}))
    end = hub.start("--auth", "password", "--users", users)
    status, said = hub.call(0).ended()
    assert (status, said.splitlines()[-1]) == (
        2,
        "caetun: --credentials: peer asks for user, password, and there is no terminal to ask at: "
        "give a file with them",
    )
    assert end.stop() == 0


def test_guests_of_a_router_are_given_addresses_once_they_are_let_in(lab: Lab) -> None:
    hub = Hub(lab, 3)
    users = write(hub.host, "/run/users", users_file({"alice": "correct horse", "bob": "battery staple"}))
    tun = ["--mode", "tun", "--dev", "tun0", "--negotiation", "server"]
    end = hub.start("--auth", "password", "--users", users, *tun, "--pool-network", "10.88.0.0/24")
    callers = [
        hub.call(number, *tun, credentials=credentials(user, password), address=False)
        for number, (user, password) in enumerate(
            [("alice", "correct horse"), ("bob", "battery staple"), ("carol", "guess")]
        )
    ]
    status, said = callers[2].ended()
    assert status == _REFUSED
    assert "negotiation.configured" not in said, "nothing is assigned to whom nobody knows"
    told = [caller.wait_for("negotiation.configured")["message"] for caller in callers[:2]]
    inner = [message.partition("address ")[2].partition("/")[0] for message in told]
    assert sorted(inner) == ["10.88.0.2", "10.88.0.3"]
    for number in (0, 1):
        await_ping(hub.sites[number], "10.88.0.1")
        assert ping(hub.sites[number], inner[1 - number]) == 3, "by the router"
    assert {row["peer"] for row in show(end, "leases", "tun0")} == {"alice", "bob"}
    assert [caller.stop() for caller in callers[:2]] == [0, 0]
    assert end.stop() == 0


def test_a_guest_of_a_router_without_a_pool_is_told_of(lab: Lab) -> None:
    hub = Hub(lab)
    users = write(hub.host, "/run/users", users_file({"alice": "correct horse"}))
    known = ["--peer", f"{base64.b64encode(public_key(os.urandom(32))).decode()},name=bob,allowed=10.88.0.9"]
    end = hub.start("--auth", "password", "--users", users, "--mode", "tun", "--dev", "tun0", peers=known)
    caller = hub.call(0, "--mode", "tun", "--dev", "tun0", credentials=credentials("alice", "correct horse"))
    caller.wait_for("auth.accepted")
    told = end.wait_for("auth.nowhere")
    assert (told["peer"], told["level"]) == ("alice", "warning")
    assert told["message"] == (
        "no address leads to alice: give guests some by --negotiation server and --pool-network, on both ends"
    )
    assert (caller.stop(), end.stop()) == (0, 0)
