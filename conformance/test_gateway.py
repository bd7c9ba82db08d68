"""CaeTun's picture with a real browser, on other devices and networks, beside a firewall; nothing passes it by."""

from __future__ import annotations

import signal
import subprocess
from typing import Final

import pytest

from caetun.lab import Lab
from tests.tunnel.ends import await_ping, ping, write
from tests.tunnel.picture import (
    CLIENT4,
    HUB,
    INSIDE4,
    INSIDE6,
    NAME,
    SAID,
    SERVER4,
    WEB4,
    WEB6,
    Before,
    caetun,
    frames,
    name_server,
    picture,
    queries,
    tunnel_addresses,
)

pytestmark = [pytest.mark.slow, pytest.mark.needs("namespaces", "tun", "firewall", "ping", "curl", "dnsmasq", "ss")]

# chosen by us
_BROWSER_SECONDS: Final = 120.0
"""For Chromium to start, load a page and end; some seconds on an idle machine."""
_QUIET: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"),
)


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("transport", ["udp", "quic", "tcp", "wss"])
def test_a_browser_shows_a_page(lab: Lab, transport: str) -> None:
    scene = picture(lab)
    before = Before(scene.client, scene.server)
    server = scene.start_server(*tunnel_addresses(1), transport=transport)
    server.wait_for("start")
    client = scene.start_client(*tunnel_addresses(0), "--dns", WEB4, "--kill-switch", transport=transport)
    client.wait_for("peer.up")
    assert SAID in scene.curl()
    with frames(scene) as capture:
        command = ["chromium", *_QUIET, "--user-data-dir=/run/profile", "--dump-dom", f"http://{NAME}/"]
        environment = {"HOME": "/run", "XDG_RUNTIME_DIR": "/run"}
        browser = scene.client.spawn(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, environment=environment)
        shown, complaints = browser.communicate(timeout=_BROWSER_SECONDS)
        assert SAID in shown.decode(), complaints.decode()
        assert capture.strange() == []
        assert capture.tunnel > 10
    assert NAME in queries(scene.web)
    assert (client.stop(), server.stop()) == (0, 0)
    assert before.differences() == {}


def test_a_carrier_is_left_for_another(lab: Lab) -> None:
    """UDP stops getting through while everything goes through the tunnel, which goes on over TLS."""
    scene = picture(lab)
    before = Before(scene.client)
    several = {"transport": "udp,wss"}
    server = scene.start_server(*tunnel_addresses(1, [4]), "--keepalive", "1", **several)
    server.wait_for("start")
    client = scene.start_client(
        *tunnel_addresses(0, [4]), "--dns", WEB4, "--kill-switch", "--keepalive", "1", **several
    )
    client.wait_for("peer.up")
    with frames(scene) as capture:
        assert SAID in scene.curl()
        table = "table inet wall { chain in { type filter hook input priority 0; udp dport 443 drop; }; }"
        scene.server.run(["nft", "-f", "-"], text=table)
        await_ping(scene.client, WEB4)
        assert SAID in scene.curl()
        assert capture.strange() == []
    assert "wss" in client.wait_for("peer.moved")["message"]
    assert client.stop() == 0
    assert before.differences() == {}


def test_a_network_is_left_for_another(lab: Lab) -> None:
    """The laptop is carried from one network to the next, which has other addresses and another way out."""
    scene = picture(lab)
    lab.link(scene.client, scene.server, left=["192.168.7.1/24"], right=["192.168.7.2/24"])
    server = scene.start_server(*tunnel_addresses(1, [4]), "--keepalive", "1")
    server.wait_for("start")
    client = scene.start_client(
        *tunnel_addresses(0, [4]), "--connect", "192.168.7.2:443", "--dns", WEB4, "--kill-switch", "--keepalive", "1"
    )
    client.wait_for("peer.up")
    assert SAID in scene.curl()
    scene.cable.down()
    scene.client.run(["ip", "route", "add", "default", "via", "192.168.7.2"])
    await_ping(scene.client, WEB4)
    assert SAID in scene.curl()
    assert client.stop() == 0
    assert "51943" not in scene.client.run(["ip", "rule"])


def test_on_ethernet_the_hub_is_the_next_hop(lab: Lab) -> None:
    scene = picture(lab)
    before = Before(scene.client, scene.server)
    mode = ["--mode", "tap", "--dev", "tap0"]
    server = scene.start_server(*tunnel_addresses(1), *mode)
    server.wait_for("start")
    via = [word for hop in (INSIDE4[1], INSIDE6[1]) for word in ("--gateway-via", hop)]
    client = scene.start_client(*tunnel_addresses(0), *mode, *via, "--dns", WEB4)
    client.wait_for("peer.up")
    with frames(scene) as capture:
        assert SAID in scene.curl()
        assert SAID in scene.curl(WEB6, patience=20)
        assert capture.strange() == []
    assert (client.stop(), server.stop()) == (0, 0)
    assert before.differences() == {}


def test_beside_a_firewall_of_the_hosts_own(lab: Lab) -> None:
    """A hub whose firewall drops what it does not know says so, and what it proposes helps."""
    scene = picture(lab)
    scene.server.run(
        ["nft", "-f", "-"],
        text="table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }",
    )
    server = scene.start_server(*tunnel_addresses(1, [4]))
    advice = server.wait_for("gateway.firewall")["message"]
    client = scene.start_client(*tunnel_addresses(0, [4]))
    client.wait_for("peer.up")
    assert scene.curl(WEB4, patience=0.5) == ""
    for command in advice.partition("let the tunnel through: ")[2].split("; "):
        scene.server.run(["sh", "-c", command])
    assert SAID in scene.curl(WEB4)


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


def test_a_mounted_resolv_conf_is_written_into(lab: Lab) -> None:
    """As containers have it."""
    scene = picture(lab)
    write(scene.client, "/run/servers", f"nameserver {SERVER4}\n", mode=0o644)
    scene.client.run(["mount", "--bind", "/run/servers", "/etc/resolv.conf"])
    before = Before(scene.client)
    client = scene.start_client(*tunnel_addresses(0, [4]), "--dns", WEB4)
    client.wait_for("gateway.dns")
    assert f"nameserver {WEB4}" in scene.client.run(["cat", "/etc/resolv.conf"])
    client.stop(signal.SIGKILL)
    caetun(scene.client, "undo")
    assert before.differences() == {}
