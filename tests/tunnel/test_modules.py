"""Modules of another package in a tunnel that runs: nothing but the configuration says so."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from caetun.lab import Host, Lab
from tests.modules import install
from tests.tunnel.certificates import Pki
from tests.tunnel.ends import (
    INNER4,
    OUTER4,
    PATIENCE,
    PORT,
    End,
    await_ping,
    key_arguments,
    ping,
    tunnel_arguments,
    two_hosts,
    write,
)
from tests.tunnel.show import show

pytestmark = pytest.mark.needs("namespaces", "tun", "ping")


def test_compression_and_a_rule_from_elsewhere(tmp_path: Path) -> None:
    path = os.pathsep.join([*install(tmp_path), str(Path(__file__).parents[2])])
    with Lab() as lab:
        hosts = two_hosts(lab)
        more = ["--compress", "zlib,lz4", "--mangle", "out hook tidy"]
        one, other = (
            End(host, *arguments, *more, path=path)
            for host, arguments in zip(hosts, tunnel_arguments(hosts, "tap"), strict=True)
        )
        for end in (one, other):
            end.wait_for("peer.up")
        assert ping(hosts[0], INNER4[1], size=1000) == 3
        with (
            hosts[0].socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
            hosts[1].socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        ):
            receiver.bind((INNER4[1], 53))
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            receiver.settimeout(PATIENCE)
            sender.sendto(bytes(800), (INNER4[1], 53))
            content, ancillary, *_ = receiver.recvmsg(1000, 100)
        assert (content, ancillary[0][2][0]) == (bytes(800), 0x80)
        assert show(one, "peers")[0]["compression"].startswith("zlib, ")
        assert show(one, "mangle") != []
        assert [end.stop() for end in (one, other)] == [0, 0]


BASE: Final = {
    "mode": '"tun"',
    "transport": '"udp"',
    "security": '"noise"',
    "key": '"/run/key"',
    "compress": '"lz4"',
    "negotiation": '"symmetric"',
}
SWAPS: Final[dict[str, dict[str, str]]] = {
    "nothing": {},
    "socket": {"transport": '"tcp"'},
    "socket of another package": {"transport": '"rawip"'},
    "security": {"security": '"tls"', "key": "", "peer": "", "cert": '"/run/cert"', "cert-key": '"/run/cert.key"'},
    "authentication of another package": {"auth": '["key", "hours"]'},
    "compression": {"compress": '"zstd"'},
    "compression of another package": {"compress": '"zlib"'},
    "mangler of another package": {"mangle": '"out hook tidy"'},
    "routing": {"mode": '"tap"'},
    "configuration handshake": {"negotiation": '"off"'},
}
"""What of the file is another line, for each module of the sketch."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[tuple[Host, Host], str, list[str], list[str]]]:
    """Two hosts with keys and certificates; PYTHONPATH; for each host its peer by key and by certificate."""
    path = os.pathsep.join([*install(tmp_path_factory.mktemp("site")), str(Path(__file__).parents[2])])
    with Lab() as lab:
        hosts = two_hosts(lab)
        keys = key_arguments(hosts)
        pki = Pki()
        for host, name in zip(hosts, ("one", "other"), strict=True):
            pki.issue(name)
            write(host, "/run/cert", pki.read(f"{name}.crt"))
            write(host, "/run/cert.key", pki.read(f"{name}.key"))
            write(host, "/run/ca.crt", pki.read("ca.crt"))
        yield hosts, path, [each[-1] for each in keys], ["cn:other", "cn:one"]


@pytest.mark.parametrize("what", SWAPS)
def test_each_module_of_the_sketch_is_swapped_by_a_line_of_the_file(
    pair: tuple[tuple[Host, Host], str, list[str], list[str]], what: str
) -> None:
    hosts, path, keys, names = pair
    ends = []
    for number, host in enumerate(hosts):
        lines = {**BASE, **SWAPS[what]}
        certificates = lines["security"] == '"tls"'
        lines["peer"] = f'"{(names if certificates else keys)[number]}"'
        lines |= {"ca": '"/run/ca.crt"'} if certificates else {}
        port = 253 if "rawip" in lines["transport"] else PORT
        lines["listen" if number == 0 else "connect"] = f'"{OUTER4[0]}:{port}"'
        lines["dev"] = f'"{lines["mode"].strip(chr(34))}0"'
        lines["address"] = f'"{INNER4[number]}/24"'
        if number == 1:
            lines.pop("auth", None)
        write(host, "/run/caetun.toml", "".join(f"{key} = {value}\n" for key, value in lines.items() if value))
        environment = ["env", "CAETUN_EXAMPLE_HOURS=0-24", sys.executable, "-m", "caetun"]
        ends.append(End(host, "--config", "/run/caetun.toml", path=path, command=environment))
    await_ping(hosts[0], INNER4[1])
    assert ends[0].events("peer.up")[-1]["link"].startswith(f"{lines['transport'].strip(chr(34))} ")
    assert show(ends[0], "peers", lines["dev"].strip('"'))[0]["compression"].startswith(lines["compress"].strip('"'))
    assert len(ends[0].events("auth.accepted")) == ("auth" in SWAPS[what])
    assert len(ends[0].events("negotiation.agreed")) == ("symmetric" in lines["negotiation"])
    assert [end.stop() for end in ends] == [0, 0]
