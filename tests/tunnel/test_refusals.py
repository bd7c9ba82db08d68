"""What cannot work is told in one line with the right exit status, and strangers get no answer."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import pytest

from caetun.lab import Host, Lab, needs
from caetun.types import DropReason
from tests.tunnel.capture import Capture
from tests.tunnel.ends import (
    INNER4,
    OUTER4,
    PORT,
    End,
    device_arguments,
    endpoint,
    key_arguments,
    ping,
    secret_arguments,
    tunnel_arguments,
    two_hosts,
    write,
)

pytestmark = pytest.mark.needs("namespaces", "tun", "ping", "ip")

_WRONG: Final = 2
"""Exit status: what the user asked for is wrong."""
_REFUSED: Final = 4
"""Exit status: this machine refuses or lacks something."""


# one line and an exit status


@dataclass(frozen=True)
class Refusal:
    """What is asked of a host where it cannot work, and what comes of it."""

    name: str
    status: int
    words: tuple[str, ...]
    """In the line, in this order."""
    prepare: Callable[[Host], object] = lambda host: None
    arguments: tuple[str, ...] = ()
    """Beside those that make it work."""
    command: tuple[str, ...] = ()
    """What starts the program."""


def hide_device(host: Host) -> None:
    """As in a container that was given no /dev/net/tun."""
    host.run(["mount", "-t", "tmpfs", "none", "/dev/net"])


REFUSALS: Final = [
    Refusal("no /dev/net/tun", _REFUSED, ("/dev/net/tun: missing", "modprobe tun"), hide_device),
    Refusal(
        "no capability",
        _REFUSED,
        ("tun0: no permission to create it", "CAP_NET_ADMIN"),
        command=("setpriv", "--inh-caps=-net_admin", "--bounding-set=-net_admin"),
    ),
    Refusal(
        "name taken by a cable",
        _REFUSED,
        ("eth0: the name is taken", "--dev"),
        arguments=("--dev", "eth0"),
    ),
    Refusal(
        "device of another mode",
        _REFUSED,
        ("tun0: exists as a tap device: use --mode tap",),
        lambda host: host.run(["ip", "tuntap", "add", "dev", "tun0", "mode", "tap"]),
    ),
    Refusal(
        "address of another host", _REFUSED, ("10.1.2.3:4500", "no interface"), arguments=("--listen", "10.1.2.3:4500")
    ),
    Refusal("no such key file", _WRONG, ("/run/nothing: cannot be read",), arguments=("--secret-file", "/run/nothing")),
    Refusal(
        "a key file that holds no key",
        _WRONG,
        ("/run/bad: holds no key", "caetun genkey"),
        lambda host: write(host, "/run/bad", "A" * 43 + "\n"),
        ("--secret-file", "/run/bad"),
    ),
    Refusal(
        "unknown key in the file",
        _WRONG,
        ("/run/bad.toml: line 1: lisen: no such option", "did you mean listen?"),
        lambda host: write(host, "/run/bad.toml", 'lisen = ":4500"\n'),
        ("--config", "/run/bad.toml"),
    ),
    Refusal("descriptor that is no device", _REFUSED, ("fd:0: not an attached TUN/TAP",), arguments=("--dev", "fd:0")),
]


@pytest.mark.needs("setpriv")
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_what_cannot_work_is_told_in_one_line(lab: Lab, refusal: Refusal) -> None:
    hosts = two_hosts(lab)
    refusal.prepare(hosts[0])
    python = (sys.executable, "-m", "caetun")
    status, said = End(
        hosts[0], *tunnel_arguments(hosts)[0], *refusal.arguments, command=(*refusal.command, *python)
    ).ended()
    assert status == refusal.status, said
    assert said.startswith("caetun: ")
    assert said.count("\n") == 1
    place = 0
    for words in refusal.words:
        assert words in said[place:]
        place = said.index(words, place)


@pytest.mark.parametrize("remote", [OUTER4[1], "far.example"], ids=["address", "name"])
def test_a_public_key_that_is_nobodys_is_told_in_one_line(lab: Lab, remote: str) -> None:
    hosts = two_hosts(lab)
    nobodys = base64.b64encode(bytes(32)).decode()
    keys = [*key_arguments(hosts)[0][:2], "--peer", nobodys]
    status, said = End(hosts[0], "--connect", f"{remote}:{PORT}", *device_arguments(0), *keys).ended()
    assert (status, said.count("\n")) == (_WRONG, 1)
    assert said.startswith(f"caetun: --peer: {nobodys} is nobody's public key")


def test_ttun_without_its_device_says_how_to_make_one(lab: Lab) -> None:
    hosts = two_hosts(lab)
    where = [OUTER4[0], "9000", OUTER4[1], "9000"]
    status, said = End(hosts[0], "ttun", "tun7", *where, *secret_arguments(hosts)[0]).ended()
    assert (status, said.count("\n")) == (_REFUSED, 1)
    assert said.startswith("caetun: tun7: no such device: make it first: ip tuntap add dev tun7 ")


def test_what_another_process_holds_is_told_in_one_line(lab: Lab) -> None:
    hosts = two_hosts(lab)
    arguments = tunnel_arguments(hosts)[0]
    End(hosts[0], *arguments).wait_for("start")
    status, said = End(hosts[0], *arguments, "--dev", "tun1").ended()
    assert (status, said.count("\n")) == (_REFUSED, 1)
    assert said.startswith(f"caetun: udp {endpoint(OUTER4[0])}: cannot be bound: ")
    assert "another program holds the port" in said
    status, said = End(hosts[0], *arguments, "--listen", ":4501").ended()
    assert (status, said.count("\n")) == (_REFUSED, 1)
    assert said.startswith("caetun: tun0: in use by another process: ")


# two ends that do not belong together


@dataclass
class Strangers:
    """Two ends with different keys, and what has crossed the cable since before they started."""

    ends: tuple[End, End]
    capture: Capture


STRANGERS: Final = {
    "secret": (secret_arguments, "/run/secret", DropReason.HANDSHAKE_MAC),
    # the caller knows our public key, but we do not know it
    "keys": (key_arguments, "/run/key", DropReason.HANDSHAKE_UNKNOWN_PEER),
}
"""How they are given their keys, which file of the second one is then replaced, what the first one counts."""


@pytest.fixture(scope="module", autouse=True)
def strangers() -> Iterator[dict[str, Strangers]]:
    """Started before the other tests of this module: it takes some 13 seconds until a caller complains."""
    if needs("namespaces", "tun"):
        yield {}
        return
    with ExitStack() as stack:
        found = {}
        for name, (arguments, path, _) in STRANGERS.items():
            hosts = two_hosts(stack.enter_context(Lab()))
            capture = stack.enter_context(Capture(hosts[0], "eth0"))
            keys = arguments(hosts)
            write(hosts[1], path, base64.b64encode(os.urandom(32)).decode() + "\n")
            one = End(hosts[0], "--listen", endpoint(OUTER4[0]), *device_arguments(0), *keys[0])
            one.wait_for("start")
            other = End(hosts[1], "--connect", endpoint(OUTER4[0]), *device_arguments(1), *keys[1])
            found[name] = Strangers((one, other), capture)
        yield found


def test_ends_of_different_modes_say_so(lab: Lab) -> None:
    hosts = two_hosts(lab)
    listening, connecting = tunnel_arguments(hosts, "tap")
    one = End(hosts[0], *listening)
    other = End(hosts[1], *connecting, "--mode", "tun", "--dev", "tun0")
    for end, words in ((one, "carries tun, this side tap"), (other, "carries tap, this side tun")):
        event = end.wait_for("peer.mismatch")
        assert event["level"] == "error"
        assert words in event["message"]
        assert "use the same --mode on both sides" in event["message"]
        assert end.events("peer.up") == []
    assert ping(hosts[1], INNER4[0], wait=0.2) == 0
    assert (one.stop(), other.stop()) == (0, 0)


@pytest.mark.parametrize("kind", STRANGERS)
def test_a_stranger_is_told_by_its_own_side_and_gets_no_answer(strangers: dict[str, Strangers], kind: str) -> None:
    one, other = strangers[kind].ends
    warning = other.wait_for("peer.silent")
    assert warning["level"] == "warning"
    assert warning["message"].startswith(f"no answer from udp {OUTER4[0]}:{PORT} yet: ")
    datagrams = strangers[kind].capture.take()
    assert len(datagrams) >= 8
    assert not [datagram for datagram in datagrams if datagram.outgoing], "silence"
    assert one.drops().keys() - {"peer.no-session"} == {str(STRANGERS[kind][2])}
    assert [event["event"] for event in one.events()] == ["start", "counters"]
    assert (one.stop(), other.stop()) == (0, 0)
