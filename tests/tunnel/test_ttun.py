"""`caetun ttun` as an ordinary user runs it, over devices that root made for him beforehand."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import cryptography
import pytest

import caetun
from caetun.lab import Host, Lab
from tests.tunnel.ends import INNER4, OUTER4, End, devices, ping

pytestmark = pytest.mark.needs("namespaces", "tun", "ip", "nc", "setpriv", "ping")

# chosen by us
_NOBODY: Final = 65534
"""User and group without rights."""
_PORT: Final = "9000"
_PLACE: Final = "/srv"
"""A directory for what the user must be able to read: on many a machine, Python and the sources lie in a home."""
_SECRET: Final = f"{_PLACE}/secret"


@pytest.fixture
def hosts(lab: Lab) -> tuple[Host, Host]:
    """Two hosts with a persistent device each, which belongs to nobody, and what nobody needs to use it."""
    if os.geteuid() != 0 or Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        pytest.skip("only the real root can become somebody else")
    one, other = lab.host("one", private=[_PLACE]), lab.host("other", private=[_PLACE])
    lab.link(one, other, left=[f"{OUTER4[0]}/24"], right=[f"{OUTER4[1]}/24"])
    secret = base64.b64encode(os.urandom(32)).decode()
    for host, address in zip((one, other), INNER4, strict=True):
        _lay_out(host)
        host.run(["sh", "-c", f"umask 077; echo {secret} > {_SECRET}; chown {_NOBODY} {_SECRET}"])
        host.run(["ip", "tuntap", "add", "dev", "tun0", "mode", "tun", "user", str(_NOBODY)])
        host.run(["ip", "address", "add", f"{address}/24", "dev", "tun0"])
        host.run(["ip", "link", "set", "tun0", "up"])
    return one, other


def _lay_out(host: Host) -> None:
    """Give a host Python, packages and sources where anybody can read them, and a /dev/net/tun with its usual mode."""
    places = {"python": sys.base_prefix, "packages": Path(cryptography.__file__).parents[1], "caetun": _sources()}
    for name, source in places.items():
        host.run(["mkdir", f"{_PLACE}/{name}"])
        host.run(["mount", "--bind", str(source), f"{_PLACE}/{name}"])
    host.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", "/dev/net"])
    host.run(["mknod", "-m", "666", "/dev/net/tun", "c", "10", "200"])


def _sources() -> Path:
    return Path(caetun.__file__).parents[1]


def ttun(host: Host, number: int) -> End:
    """`ttun` in host 0 or 1, by nobody, without any capability."""
    drop = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--inh-caps=-all"]
    python = f"{_PLACE}/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    # A shared libpython is looked for where it was installed, which nobody may read.
    environment = ["env", f"LD_LIBRARY_PATH={_PLACE}/python/lib"]
    return End(
        host,
        *("ttun", "tun0", OUTER4[number], _PORT, OUTER4[1 - number], _PORT, "--secret-file", _SECRET),
        command=[*drop, "--bounding-set=-all", "--no-new-privs", *environment, python, "-m", "caetun"],
        path=f"{_PLACE}/caetun:{_PLACE}/packages",
    )


@pytest.mark.parametrize("first", [0, 1])
def test_an_ordinary_user_joins_two_devices(hosts: tuple[Host, Host], first: int) -> None:
    early = ttun(hosts[first], first)
    early.wait_for("start")
    late = ttun(hosts[1 - first], 1 - first)
    for end in (early, late):
        end.wait_for("peer.up")
        status = Path(f"/proc/{end.process.pid}/status").read_text()
        assert f"Uid:\t{_NOBODY}\t{_NOBODY}" in status
        assert f"CapEff:\t{0:016x}" in status
        assert f"CapBnd:\t{0:016x}" in status
    assert ping(hosts[0], INNER4[1]) == 3
    assert ping(hosts[1], INNER4[0]) == 3
    assert hello_world(hosts[0], hosts[1], INNER4[1]) == b"Hello World\n"
    assert hello_world(hosts[1], hosts[0], INNER4[0]) == b"Hello World\n"
    assert (early.stop(), late.stop()) == (0, 0)
    for host, address in zip(hosts, INNER4, strict=True):
        assert devices(host) == {"tun0"}
        assert f"inet {address}/24 " in host.run(["ip", "address", "show", "dev", "tun0", "up"])


def hello_world(sender: Host, receiver: Host, address: str) -> bytes:
    """What `nc` receives in one host when another `nc` says hello."""
    listener = receiver.spawn(
        ["nc", "-v", "-n", "-N", "-l", address, "7000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert listener.stderr is not None
    assert listener.stderr.readline().startswith(b"Listening")
    sender.run(["nc", "-n", "-N", address, "7000"], text="Hello World\n")
    return listener.communicate(timeout=10)[0]
