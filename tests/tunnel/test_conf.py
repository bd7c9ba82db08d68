"""Two hosts that are configured by files in the manner of WireGuard, the seed's own form and WireGuard's."""

from __future__ import annotations

import base64
import os

import pytest

from caetun.lab import Lab
from caetun.session.identity import public_key
from tests.tunnel.ends import INNER4, OUTER4, End, await_ping, ping, two_hosts, write

pytestmark = pytest.mark.needs("namespaces", "tun", "ping")


def test_the_seeds_own_form_with_a_shared_secret() -> None:
    secret = base64.b64encode(os.urandom(32)).decode()
    with Lab() as lab:
        hosts = two_hosts(lab)
        ends = []
        for number, host in enumerate(hosts):
            write(host, "/run/secret.key", secret + "\n")
            where = "ListenPort = 4500" if not number else ""
            endpoint = f"Endpoint = {OUTER4[0]}:4500" if number else ""
            text = (
                f"[Interface]\nName = tun0\nAddress = {INNER4[number]}\nAddress = 10.88.0.{number + 11}\n"
                f"{where}\nSecretFile = secret.key\n"
                f"[Peer]\nName = other\n{endpoint}\nAllowedIPs = {INNER4[1 - number]}/32\n"
            )
            ends.append(End(host, "--config", write(host, "/run/tunnel.conf", text)))
        for end in ends:
            end.wait_for("peer.up")
        await_ping(hosts[1], INNER4[0])
        assert ping(hosts[1], INNER4[0]) == 3
        hosts[1].run(["ip", "route", "add", "10.88.0.11", "dev", "tun0"])
        assert ping(hosts[1], "10.88.0.11", count=2, wait=0.3) == 0, "is not one of its AllowedIPs"
        assert ends[1].drops()["mangle.filter"] >= 2
        assert [end.stop() for end in ends] == [0, 0]


def test_keys_in_the_file() -> None:
    private = [os.urandom(32) for _ in range(2)]
    psk = base64.b64encode(os.urandom(32)).decode()
    with Lab() as lab:
        hosts = two_hosts(lab)
        ends = []
        for number, host in enumerate(hosts):
            own, other = private[number], public_key(private[1 - number])
            text = (
                f"[Interface]\nAddress = {INNER4[number]}/24\nPrivateKey = {base64.b64encode(own).decode()}\n"
                f"{'ListenPort = 4500' if not number else ''}\n"
                f"[Peer]\nPublicKey = {base64.b64encode(other).decode()}\nPresharedKey = {psk}\n"
                f"{f'Endpoint = {OUTER4[0]}:4500' if number else ''}\nAllowedIPs = {INNER4[1 - number]}/32\n"
            )
            ends.append(End(host, "--config", write(host, "/run/tunnel.conf", text)))
        for end in ends:
            end.wait_for("peer.up")
        await_ping(hosts[1], INNER4[0])
        assert not ends[0].events("key.readable")
        assert [end.stop() for end in ends] == [0, 0]
