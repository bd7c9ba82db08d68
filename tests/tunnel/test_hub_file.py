"""A hub described in a file, with tables: its guards work on what kernels send, and `caetun show` tells of it."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import caetun
from caetun.lab import Host, Lab
from caetun.session.identity import public_key
from tests.tunnel.ends import End, ping, write

pytestmark = pytest.mark.needs("namespaces", "tun", "ping", "ip")

HUB = """
mode = "tap"
dev = "tap0"
listen = ":4500"
key = "/run/key"
address = "10.88.0.1/24"
suppression = "direct"

[port-defaults]
role = "host"
mac-limit = 8

[[peer]]
key = "{attic}"
name = "attic"
bind = ["10.88.0.2", "fe80::/10"]

[[peer]]
key = "{office}"
name = "office"
role = "bridge"
static-group = "239.9.9.9"
"""


def show(host: Host, what: str) -> list[dict[str, Any]]:
    """What `caetun show WHAT --json` prints there."""
    sources = str(Path(caetun.__file__).parents[1])
    environment = f"PYTHONPATH={sources} RUNTIME_DIRECTORY=/run/caetun"
    command = f"{environment} {sys.executable} -m caetun show {what} --json"
    rows: list[dict[str, Any]] = json.loads(host.run(["sh", "-c", command]))
    return rows


def test_a_hub_of_tables(lab: Lab) -> None:
    hub, attic, office = (lab.host(name, private=["/run"]) for name in ("hub", "attic", "office"))
    private = {host: os.urandom(32) for host in (hub, attic, office)}
    public = {host: base64.b64encode(public_key(key)).decode() for host, key in private.items()}
    for host, key in private.items():
        write(host, "/run/key", base64.b64encode(key).decode() + "\n")
    write(hub, "/run/hub.toml", HUB.format(attic=public[attic], office=public[office]))
    ends = [End(hub, "--config", "/run/hub.toml")]
    ends[0].wait_for("start")
    for number, host in enumerate((attic, office)):
        lab.link(hub, host, left=[f"10.99.{number}.1/24"], right=[f"10.99.{number}.2/24"])
        where = ["--mode", "tap", "--dev", "tap0", "--connect", f"udp://10.99.{number}.1:4500"]
        address = ["--address", f"10.88.0.{number + 2}/24"]
        ends.append(End(host, *where, *address, "--key", "/run/key", "--peer", public[hub]))
        ends[-1].wait_for("peer.up")
    assert ping(attic, "10.88.0.3") == 3
    assert [(row["port"], row["state"]) for row in show(hub, "ports")] == [
        ("local", "up"),
        ("attic", "up"),
        ("office", "up"),
    ]
    assert {(row["address"], row["by"]) for row in show(hub, "bindings")} == {
        ("10.88.0.2", "static"),
        ("fe80::/10", "static"),
    }
    assert {"10.88.0.2", "10.88.0.3"} <= {row["address"] for row in show(hub, "neighbours")}
    assert ("239.9.9.9", "office", "static") in {
        (row["group"], row["port"], row["expires s"]) for row in show(hub, "mdb")
    }
    assert {(row["protocol"], row["state"]) for row in show(hub, "querier")} == {("igmp", "asking"), ("mld", "asking")}
    attic.run(["ip", "address", "del", "10.88.0.2/24", "dev", "tap0"])
    attic.run(["ip", "address", "add", "10.88.0.66/24", "dev", "tap0"])
    assert ping(attic, "10.88.0.3", count=1, wait=0.5) == 0, "it is not his address"
    assert any(row["reason"] == "guard.source" for row in show(hub, "drops"))
    ends[0].wait_for("guard.source")
    assert [end.stop() for end in (*ends[1:], ends[0])] == [0] * 3
