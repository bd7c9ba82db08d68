"""A browser's host reaches the world through the tunnel, and only so; and is afterwards as it was before."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence

import pytest

from caetun.lab import Lab
from tests.tunnel.ends import End, ping, write
from tests.tunnel.picture import (
    OUTSIDE4,
    OUTSIDE6,
    SAID,
    SERVER4,
    SERVER6,
    WEB4,
    WEB6,
    Before,
    caetun,
    frames,
    picture,
    queries,
    tunnel_addresses,
)

pytestmark = pytest.mark.needs("namespaces", "tun", "firewall", "ping", "curl", "dnsmasq", "ss", "setpriv")


@pytest.mark.parametrize("transport", ["udp", pytest.param("wss", marks=pytest.mark.slow)])
def test_the_picture(lab: Lab, transport: str) -> None:
    """A page is fetched from a server that knows no way back, by a name that is asked for through the tunnel."""
    scene = picture(lab)
    for interface in ("all", scene.cable.device):
        scene.client.set(f"net.ipv4.conf.{interface}.rp_filter", 1)  # the strict kind, which many hosts have
    before = Before(scene.client, scene.server)
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
    assert before.differences() == {}


def test_the_picture_with_ipv6(lab: Lab) -> None:
    scene = picture(lab)
    before = Before(scene.client, scene.server)
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
    assert before.differences() == {}


@pytest.mark.parametrize("mode", [pytest.param("tun", marks=pytest.mark.slow), "tap"])
def test_the_hub_may_ask_for_it(lab: Lab, mode: str) -> None:
    """A client that takes what it is given is given the default route and name servers too."""
    scene = picture(lab)
    before = Before(scene.client, scene.server)
    both = ["--mode", mode, "--dev", f"{mode}0", "--negotiation", "server"]
    push = ["--pool-network", "10.8.0.0/24", "--pool-network", "fd88::/64", "--push-gateway", "--push-dns", WEB4]
    server = scene.start_server(*both, *push)
    server.wait_for("start")
    where = ["--connect", f"{SERVER4}:443", *scene.secrets[0]]
    client = End(scene.client, *where, *both)
    client.wait_for("gateway.on")
    with frames(scene) as capture:
        assert SAID in scene.curl()
        assert SAID in scene.curl(WEB6)
        assert capture.strange() == []
    assert f"from {OUTSIDE4}" in queries(scene.web)
    assert (client.stop(), server.stop()) == (0, 0)
    assert before.differences() == {}


@pytest.mark.parametrize("who", ["hub", "client"])
def test_a_route_as_wide_as_the_world_does_not_swallow_the_tunnel(lab: Lab, who: str) -> None:
    """0.0.0.0/1 holds the hub's own outer address, too."""
    scene = picture(lab)
    before = Before(scene.client)
    wide, near = "0.0.0.0/1", "10.1.1.0/25"
    both = ["--dev", "tun0", "--negotiation", "server" if who == "hub" else "off"]
    pushed = ["--push-route", wide, "--push-route", near, "--pool-network", "10.8.0.0/24"]
    server = scene.start_server(*both, *(pushed if who == "hub" else tunnel_addresses(1)))
    server.wait_for("start")
    own = ["--route", wide, "--route", near, *tunnel_addresses(0)] if who == "client" else []
    client = End(scene.client, "--connect", f"{SERVER4}:443", *both, *own, "--keepalive", "1", *scene.secrets[0])
    client.wait_for("negotiation.configured" if who == "hub" else "peer.up")
    with frames(scene) as capture:
        assert SAID in scene.curl(WEB4)
        assert capture.strange() == []
    assert "dev eth0" in scene.client.run(["ip", "route", "get", "10.1.1.200"]), "more exact than the world"
    assert "dev tun0" in scene.client.run(["ip", "route", "get", "10.1.1.100"]), "asked for"
    time.sleep(3)  # longer than a tunnel lives whose packets go into itself
    assert SAID in scene.curl(WEB4)
    assert not client.events("peer.down")
    assert (client.stop(), server.stop()) == (0, 0)
    assert before.differences() == {}


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


@pytest.mark.parametrize(("how", "options"), [("undo", []), ("next start", ["--kill-switch"])], ids=["undo", "start"])
def test_killed_and_repaired(lab: Lab, how: str, options: Sequence[str]) -> None:
    scene = picture(lab)
    before = Before(scene.client, scene.server)
    arguments = [*tunnel_addresses(0, [4]), "--dns", WEB4, *options]
    server = scene.start_server(*tunnel_addresses(1, [4]))
    client = scene.start_client(*arguments)
    client.wait_for("peer.up")
    for end in (client, server):
        end.stop(signal.SIGKILL)
    left = before.differences().keys()
    assert {f"client: {what}" for what in ("ip rule", "cat /etc/resolv.conf", "nft list ruleset")} <= left
    if how == "undo":
        said = caetun(scene.client, "undo")
        assert "tun0: undone: /etc/resolv.conf" in said
        assert "tun0: undone: nftables table inet caetun_tun0" in said
        assert "tun0: undone: sysctl net.ipv4.ip_forward" in caetun(scene.server, "undo", "tun0")
        assert caetun(scene.client, "undo") == "nothing to undo\n"
    else:
        server = scene.start_server(*tunnel_addresses(1, [4]))
        with frames(scene) as capture:
            scene.client.spawn(["ping", "-q", "-i", "0.01", WEB4])  # what would leak if the kill switch had a gap
            client = scene.start_client(*arguments)
            assert "nftables" not in client.wait_for("gateway.undone")["message"]
            client.wait_for("peer.up")
            assert SAID in scene.curl()
            assert capture.strange() == []
        assert (client.stop(), server.stop()) == (0, 0)
    assert before.differences() == {}


def test_a_plain_tunnel_repairs_too_but_leaves_the_kill_switch_of_another(lab: Lab) -> None:
    scene = picture(lab)
    before = Before(scene.client)
    first = scene.start_client(*tunnel_addresses(0, [4]), "--kill-switch")
    first.wait_for("start")
    first.stop(signal.SIGKILL)
    other = scene.start_client("--dev", "tun7", "--address", "10.9.0.1/24")
    assert "caetun undo tun0" in other.ended()[1]
    assert "the kill switch of a tunnel that was killed still holds" in other.said()
    caetun(scene.client, "undo", "tun0")
    assert before.differences() == {}


def test_the_kill_switch_holds_while_the_hub_is_away(lab: Lab) -> None:
    scene = picture(lab)
    before = Before(scene.client)
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
    assert before.differences() == {}


def test_the_kill_switch_holds_when_the_tunnel_fails(lab: Lab) -> None:
    scene = picture(lab)
    before = Before(scene.client)
    client = scene.start_client(*tunnel_addresses(0, [4]), "--kill-switch")
    client.wait_for("start")
    scene.client.run(["ip", "link", "delete", "tun0"])
    status, said = client.ended()
    assert status == 4
    assert "the kill switch holds, nothing leaves: start the tunnel again, or caetun undo tun0" in said
    with frames(scene) as capture:
        assert ping(scene.client, WEB4, count=1, wait=0.2) == 0
        assert capture.strange() == []
    caetun(scene.client, "undo")
    assert before.differences() == {}


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
    before = Before(scene.client)
    client = scene.start_client(*tunnel_addresses(0, [4]), "--dns", WEB4)
    client.wait_for("gateway.dns")
    assert f"nameserver {WEB4}" in scene.client.run(["cat", "/etc/resolv.conf"])
    assert client.stop() == 0
    assert before.differences() == {}
    assert scene.client.run(["readlink", "/etc/resolv.conf"]) == "/run/servers\n"


def test_without_permission_nothing_is_changed(lab: Lab) -> None:
    scene = picture(lab)
    before = Before(scene.client)
    where = ["--connect", f"{SERVER4}:443", "--address", "10.8.0.1/24", *scene.secrets[0]]
    command = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", sys.executable, "-m", "caetun"]
    end = End(scene.client, *where, "--gateway", "--dns", WEB4, command=command)
    status, said = end.ended()
    assert status == 4
    assert "needs root or CAP_NET_ADMIN" in said
    assert before.differences() == {}
