"""The gateway beside a real systemd-resolved, with a message bus of its own in the client's host."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import Final

import pytest

from caetun.lab import Host, Lab
from tests.tunnel.ends import PATIENCE, write
from tests.tunnel.picture import (
    HUB,
    NAME,
    SAID,
    SERVER4,
    WEB4,
    Before,
    frames,
    name_server,
    picture,
    queries,
    tunnel_addresses,
)

_PATH: Final = os.pathsep.join([os.environ.get("PATH", os.defpath), "/lib/systemd", "/usr/lib/systemd"])
_RESOLVED: Final = shutil.which("systemd-resolved", path=_PATH)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs(
        *("namespaces", "tun", "firewall", "curl", "dnsmasq", "ss", "dbus-daemon", "resolvectl", "setpriv")
    ),
    pytest.mark.skipif(_RESOLVED is None, reason="systemd-resolved is not installed"),
]

# fixed by the specification: dbus-daemon(1)
_BUS: Final = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
<allow user="*"/></policy></busconfig>
"""


def resolvectl(host: Host, *arguments: str) -> str:
    """What it prints."""
    process = host.spawn(["resolvectl", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return process.communicate(timeout=PATIENCE)[0].decode()


def with_resolved(host: Host) -> None:
    """Let systemd-resolved answer in a host whose /etc and /run are its own."""
    assert _RESOLVED is not None
    host.run(["sh", "-c", "mkdir -p /run/dbus /run/systemd/resolve; chmod 755 /run"])
    host.run(["sh", "-c", "grep -q ^systemd-resolve: /etc/passwd || echo systemd-resolve:x:992:992::/: >> /etc/passwd"])
    host.run(["sh", "-c", "grep -q ^systemd-resolve: /etc/group || echo systemd-resolve:x:992: >> /etc/group"])
    host.run(["chown", "-R", "systemd-resolve:systemd-resolve", "/run/systemd/resolve"])
    write(host, "/run/bus.conf", _BUS, mode=0o644)
    host.spawn(["dbus-daemon", "--config-file=/run/bus.conf", "--nofork"], stderr=subprocess.DEVNULL)
    host.run(["sh", "-c", "while ! test -S /run/dbus/system_bus_socket; do sleep 0.05; done"])
    host.spawn([_RESOLVED], stderr=subprocess.DEVNULL, environment={"SYSTEMD_LOG_TARGET": "console"})
    deadline = time.monotonic() + PATIENCE
    while "Link" not in resolvectl(host, "dns", "eth0", SERVER4) + resolvectl(host, "status"):
        assert time.monotonic() < deadline, "systemd-resolved does not start"
        time.sleep(0.1)
    write(host, "/etc/resolv.conf", "nameserver 127.0.0.53\n", mode=0o644)


def test_names_are_asked_for_through_the_tunnel(lab: Lab) -> None:
    scene = picture(lab)
    with_resolved(scene.client)
    name_server(scene.server, f"/{HUB}/{SERVER4}", listen=[SERVER4])
    before = Before(scene.client)
    server = scene.start_server(*tunnel_addresses(1, [4]))
    server.wait_for("start")
    options = ["--dns", WEB4, "--dns-domain", "corp.example", "--kill-switch"]
    client = scene.start_client(*tunnel_addresses(0, [4]), *options, to=HUB)
    client.wait_for("peer.up")
    assert HUB in queries(scene.server)
    status = resolvectl(scene.client, "status", "tun0")
    assert f"DNS Servers: {WEB4}" in status
    assert "corp.example ~." in status
    with frames(scene) as capture:
        assert SAID in scene.curl()
        assert capture.strange() == []
    assert NAME in queries(scene.web)
    assert NAME not in queries(scene.server)
    assert client.stop() == 0
    assert before.differences() == {}
