"""CaeTun's picture with a real browser: headless Chromium shows a page through the tunnel, and nothing passes it by."""

from __future__ import annotations

import subprocess
from typing import Final

import pytest

from caetun.lab import Lab
from tests.tunnel.picture import NAME, SAID, WEB4, differences, frames, picture, queries, state, tunnel_addresses

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("namespaces", "tun", "firewall", "curl", "dnsmasq", "ss", "chromium"),
]

# chosen by us
_BROWSER_SECONDS: Final = 120.0
"""For Chromium to start, load a page and end; some seconds on an idle machine."""
_QUIET: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"),
)


@pytest.mark.parametrize("transport", ["udp", "quic", "tcp", "wss"])
def test_a_browser_shows_a_page(lab: Lab, transport: str) -> None:
    scene = picture(lab)
    before = state(scene.client), state(scene.server)
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
    assert differences(before[0], state(scene.client)) == {}
    assert differences(before[1], state(scene.server)) == {}
