"""A browser's host reaches the world through the tunnel, and only so; and is afterwards as it was before."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

import pytest

from caetun.lab import Lab
from tests.tunnel.ends import await_ping, ping, write
from tests.tunnel.picture import (
    CLIENT4,
    HUB,
    INSIDE4,
    OUTSIDE4,
    OUTSIDE6,
    SAID,
    SERVER4,
    SERVER6,
    WEB4,
    WEB6,
    caetun,
    differences,
    frames,
    name_server,
    picture,
    queries,
    state,
    tunnel_addresses,
)

pytestmark = pytest.mark.needs("namespaces", "tun", "firewall", "ping", "curl", "dnsmasq", "ss")


@pytest.mark.parametrize("transport", ["udp", "quic", "tcp", "wss"])
def test_the_picture(lab: Lab, transport: str) -> None:
    """A page is fetched from a server that knows no way back, by a name that is asked for through the tunnel."""
    scene = picture(lab)
    for interface in ("all", scene.cable.device):
        scene.client.set(f"net.ipv4.conf.{interface}.rp_filter", 1)  # the strict kind, which many hosts have
    before = state(scene.client), state(scene.server)
    assert scene.curl(WEB4, patience=0.3) == ""
    with frames(scene) as capture:
        server = scene.start_server(*tunnel_addresses(1, [4]), transport=transport)
        server.wait_for("start")
        client = scene.start_client(*tunnel_addresses(0, [4]), "--dns", WEB4, transport=transport)
        client.wait_for("peer.up")
        capture.strange()
        assert SAID in scene.curl()
        assert capture.strange() == []
        assert capture.tunnel > 10
    assert f"from {OUTSIDE4}" in queries(scene.web)
    assert ping(scene.client, SERVER4) == 3  # the local network is still there
    assert "IPv6 is blocked" in client.wait_for("gateway.on")["message"]
    assert (client.stop(), server.stop()) == (0, 0)
    assert differences(before[0], state(scene.client)) == {}
    assert differences(before[1], state(scene.server)) == {}


def test_the_picture_with_ipv6(lab: Lab) -> None:
    scene = picture(lab)
    before = state(scene.client), state(scene.server)
    server = scene.start_server(*tunnel_addresses(1))
    server.wait_for("start")
    client = scene.start_client(*tunnel_addresses(0), "--dns", WEB6, "--kill-switch", to=SERVER6)
    client.wait_for("peer.up")
    with frames(scene) as capture:
        assert SAID in scene.curl(WEB6)
        assert SAID in scene.curl()
        assert SAID in scene.curl(WEB4)
        assert capture.strange() == []
    assert f"from {OUTSIDE6}" in queries(scene.web)
    assert (client.stop(), server.stop()) == (0, 0)
    assert differences(before[0], state(scene.client)) == {}
    assert differences(before[1], state(scene.server)) == {}


def test_what_the_tunnel_does_not_carry_does_not_leak(lab: Lab) -> None:
    scene = picture(lab)
    scene.start_server(*tunnel_addresses(1, [4])).wait_for("start")
    scene.server.set("net.ipv6.conf.all.forwarding", 1)
    scene.web.run(["ip", "-6", "route", "add", "default", "via", OUTSIDE6])
    assert SAID in scene.curl(WEB6)
    client = scene.start_client(*tunnel_addresses(0, [4]))
    client.wait_for("peer.up")
    with frames(scene) as capture:
        assert scene.curl(WEB6, patience=0.3) == ""
        assert ping(scene.client, WEB6, count=1, wait=0.2) == 0
        assert capture.strange() == []
    client.stop()
    assert SAID in scene.curl(WEB6)


@pytest.mark.parametrize("options", [[], ["--kill-switch"]], ids=["plain", "kill switch"])
@pytest.mark.parametrize("how", ["undo", "next start"])
def test_killed_and_repaired(lab: Lab, how: str, options: Sequence[str]) -> None:
    scene = picture(lab)
    before = state(scene.client), state(scene.server)
    arguments = [*tunnel_addresses(0, [4]), "--dns", WEB4, *options]
    server = scene.start_server(*tunnel_addresses(1, [4]))
    client = scene.start_client(*arguments)
    client.wait_for("peer.up")
    for end in (client, server):
        end.stop(signal.SIGKILL)
    left = differences(before[0], state(scene.client))
    assert {"ip rule", "cat /etc/resolv.conf", "nft list ruleset"} <= left.keys()
    if how == "undo":
        said = caetun(scene.client, "undo")
        assert "tun0: undone: /etc/resolv.conf" in said
        assert "tun0: undone: nftables table inet caetun_tun0" in said
        assert "tun0: undone: sysctl net.ipv4.ip_forward" in caetun(scene.server, "undo", "tun0")
        assert caetun(scene.client, "undo") == "nothing to undo\n"
    else:
        server = scene.start_server(*tunnel_addresses(1, [4]))
        client = scene.start_client(*arguments)
        client.wait_for("gateway.undone")
        client.wait_for("peer.up")
        assert SAID in scene.curl()
        assert (client.stop(), server.stop()) == (0, 0)
    assert differences(before[0], state(scene.client)) == {}
    assert differences(before[1], state(scene.server)) == {}


def test_a_plain_tunnel_repairs_too_but_leaves_the_kill_switch_of_another(lab: Lab) -> None:
    scene = picture(lab)
    before = state(scene.client)
    first = scene.start_client(*tunnel_addresses(0, [4]), "--kill-switch")
    first.wait_for("start")
    first.stop(signal.SIGKILL)
    other = scene.start_client("--dev", "tun7", "--address", "10.9.0.1/24")
    assert "caetun undo tun0" in other.ended()[1]
    assert "the kill switch of a tunnel that was killed still holds" in other.said()
    caetun(scene.client, "undo", "tun0")
    assert differences(before, state(scene.client)) == {}


def test_the_kill_switch_holds_while_the_hub_is_away(lab: Lab) -> None:
    scene = picture(lab)
    before = state(scene.client)
    # A way past the tunnel, for what would leak: it is there before and after.
    scene.server.set("net.ipv4.ip_forward", 1)
    scene.web.run(["ip", "route", "add", "default", "via", OUTSIDE4])
    assert ping(scene.client, WEB4) == 3
    server = scene.start_server(*tunnel_addresses(1, [4]), "--keepalive", "1")
    client = scene.start_client(*tunnel_addresses(0, [4]), "--keepalive", "1", "--kill-switch", "--dns", WEB4)
    client.wait_for("peer.up")
    with frames(scene) as capture:
        assert SAID in scene.curl()
        server.stop(signal.SIGKILL)
        assert ping(scene.client, WEB4, count=2, wait=0.3) == 0
        assert capture.strange() == []
        server = scene.start_server(*tunnel_addresses(1, [4]), "--keepalive", "1")
        await_ping(scene.client, WEB4)
        client.stop(signal.SIGKILL)
        capture.strange()
        assert ping(scene.client, WEB4, count=2, wait=0.3) == 0
        # not even for a program that insists
        command = ["curl", "-s", "--interface", scene.cable.device, "--max-time", "1", f"http://{WEB4}/"]
        assert scene.client.run(["sh", "-c", f"{' '.join(command)}; echo $?"]).strip() != "0"
        assert capture.strange() == []
    assert ping(scene.client, SERVER4) == 3
    caetun(scene.client, "undo")
    assert ping(scene.client, WEB4) == 3
    assert differences(before, state(scene.client)) == {}


def test_without_the_local_network_not_even_that_is_reached(lab: Lab) -> None:
    scene = picture(lab)
    server = scene.start_server(*tunnel_addresses(1, [4]))
    server.wait_for("start")
    scene.start_client(*tunnel_addresses(0, [4]), "--no-gateway-lan", "--kill-switch").wait_for("peer.up")
    with frames(scene) as capture:
        assert ping(scene.client, INSIDE4[1]) == 3
        # The server's own address is reached nevertheless, but through the tunnel.
        assert ping(scene.client, SERVER4) == 3
        assert capture.strange() == []


def test_the_far_ends_name_is_looked_up_outside(lab: Lab) -> None:
    """Where the name servers of the tunnel cannot be asked yet, those that were there before are."""
    scene = picture(lab)
    name_server(scene.server, f"/{HUB}/{SERVER4}", listen=[SERVER4])
    client = scene.start_client(*tunnel_addresses(0, [4]), "--dns", WEB4, "--kill-switch", "--keepalive", "1", to=HUB)
    client.wait_for("gateway.on")
    server = scene.start_server(*tunnel_addresses(1, [4]), "--keepalive", "1")
    client.wait_for("peer.up")
    assert SAID in scene.curl()
    assert f"{HUB} from {CLIENT4}" in queries(scene.server)
    assert HUB not in queries(scene.web)
    # once more, with the servers of the tunnel in resolv.conf
    server.stop(signal.SIGKILL)
    scene.start_server(*tunnel_addresses(1, [4]), "--keepalive", "1")
    await_ping(scene.client, WEB4)


def test_other_networks_and_other_changes_of_the_host_are_lived_with(lab: Lab) -> None:
    scene = picture(lab)
    scene.start_server(*tunnel_addresses(1, [4])).wait_for("start")
    client = scene.start_client(*tunnel_addresses(0, [4]), "--dns", WEB4)
    client.wait_for("peer.up")
    # A network manager that clears rules it does not know, and a DHCP client that writes resolv.conf anew.
    write(scene.client, "/etc/resolv.fresh", "nameserver 10.1.1.77\n", mode=0o644)
    scene.client.run(["mv", "/etc/resolv.fresh", "/etc/resolv.conf"])
    scene.client.run(["sh", "-c", "while ip rule del priority 31903; do :; done 2>/dev/null; true"])
    deadline = time.monotonic() + 10
    while SAID not in scene.curl():
        assert time.monotonic() < deadline, client.said()
    assert client.stop() == 0
    assert scene.client.run(["cat", "/etc/resolv.conf"]) == "nameserver 10.1.1.77\n"
    assert "31903" not in scene.client.run(["ip", "rule"])


def test_a_link_that_resolv_conf_is_stays_one(lab: Lab) -> None:
    scene = picture(lab)
    write(scene.client, "/run/servers", f"nameserver {SERVER4}\n", mode=0o644)
    scene.client.run(["ln", "-sfn", "/run/servers", "/etc/resolv.conf"])
    before = state(scene.client)
    client = scene.start_client(*tunnel_addresses(0, [4]), "--dns", WEB4)
    client.wait_for("gateway.dns")
    assert f"nameserver {WEB4}" in scene.client.run(["cat", "/etc/resolv.conf"])
    assert client.stop() == 0
    assert differences(before, state(scene.client)) == {}
    assert scene.client.run(["readlink", "/etc/resolv.conf"]) == "/run/servers\n"


def test_a_mounted_resolv_conf_is_written_into(lab: Lab) -> None:
    """As containers have it."""
    scene = picture(lab)
    write(scene.client, "/run/servers", f"nameserver {SERVER4}\n", mode=0o644)
    scene.client.run(["mount", "--bind", "/run/servers", "/etc/resolv.conf"])
    before = state(scene.client)
    client = scene.start_client(*tunnel_addresses(0, [4]), "--dns", WEB4)
    client.wait_for("gateway.dns")
    assert f"nameserver {WEB4}" in scene.client.run(["cat", "/etc/resolv.conf"])
    client.stop(signal.SIGKILL)
    caetun(scene.client, "undo")
    assert differences(before, state(scene.client)) == {}


def test_without_permission_nothing_is_changed(lab: Lab) -> None:
    scene = picture(lab)
    before = state(scene.client)
    where = ["--connect", f"{SERVER4}:443", "--address", "10.8.0.1/24", *scene.secrets[0]]
    words = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    from tests.tunnel.ends import End

    command = [*words, __import__("sys").executable, "-m", "caetun"]
    end = End(scene.client, *where, "--gateway", "--dns", WEB4, command=command)
    status, said = end.ended()
    assert status == 4
    assert "needs root or CAP_NET_ADMIN" in said
    assert differences(before, state(scene.client)) == {}


def test_a_client_that_is_told_its_address_and_name_server_sends_everything_through_the_hub(lab: Lab) -> None:
    scene = picture(lab)
    before = state(scene.client), state(scene.server)
    assigned = ["--pool-network", "10.8.0.0/24", "--push-dns", WEB4, "--push-gateway"]
    server = scene.start_server("--negotiation", "server", *assigned)
    server.wait_for("start")
    client = scene.start_client("--negotiation", "server")
    assert "address 10.8.0.2/24" in client.wait_for("negotiation.configured")["message"]
    client.wait_for("gateway.on")
    assert SAID in scene.curl()
    assert f"nameserver {WEB4}" in scene.client.run(["cat", "/etc/resolv.conf"])
    assert (client.stop(), server.stop()) == (0, 0)
    assert differences(before[0], state(scene.client)) == {}
    assert differences(before[1], state(scene.server)) == {}
