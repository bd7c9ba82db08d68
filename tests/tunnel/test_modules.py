"""Modules of another package in a tunnel that runs: nothing but the configuration says so."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from caetun.lab import Lab
from tests.modules import install
from tests.tunnel.ends import INNER4, PATIENCE, End, ping, tunnel_arguments, two_hosts
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
