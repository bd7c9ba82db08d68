"""--security tls: certificates instead of keys, over any carrier; who is refused, and what both sides say about it."""

from __future__ import annotations

import datetime
import signal

import pytest

from caetun.lab import Lab
from caetun.lab.traffic import stream
from tests.tunnel.certificates import Pki, certificate_arguments, now
from tests.tunnel.ends import (
    INNER4,
    INNER6,
    OUTER4,
    PORT,
    End,
    device_arguments,
    endpoint,
    ping,
    start,
    two_hosts,
    write,
)

pytestmark = pytest.mark.needs("namespaces", "tun", "ping", "ip")


def arguments(carrier: str) -> list[list[str]]:
    """Where to, and the devices, for both ends."""
    where = f"{carrier}://{endpoint(OUTER4[0])}"
    return [["--listen", where, *device_arguments(0)], ["--connect", where, *device_arguments(1)]]


@pytest.mark.parametrize("carrier", ["udp", pytest.param("tcp", marks=pytest.mark.slow), "wss"])
def test_certificates_make_a_tunnel_over_any_carrier(lab: Lab, carrier: str) -> None:
    hosts = two_hosts(lab)
    both = zip(arguments(carrier), certificate_arguments(hosts), strict=True)
    one, other = start(hosts, [[*where, *keys] for where, keys in both])
    assert (one.events("peer.up")[0]["peer"], other.events("peer.up")[0]["peer"]) == ("other", "one")
    assert ping(hosts[1], INNER4[0]) == ping(hosts[0], INNER6[1]) == 3
    assert stream(hosts[0], hosts[1], INNER4[1], 0.3).octets > 1 << 20
    assert not one.events("peer.refused") + other.events("peer.refused")
    assert (one.stop(), other.stop()) == (0, 0)


@pytest.mark.parametrize("libraries", [("tlslite", "openssl"), ("openssl", "tlslite")])
def test_one_tls_library_talks_to_another(lab: Lab, libraries: tuple[str, str]) -> None:
    hosts = two_hosts(lab)
    both = zip(arguments("udp"), certificate_arguments(hosts), libraries, strict=True)
    one, other = start(hosts, [[*where, *keys, "--tls-library", name] for where, keys, name in both])
    assert ping(hosts[1], INNER4[0]) == 3
    assert (one.stop(), other.stop()) == (0, 0)


def test_new_keys_are_agreed_upon_while_traffic_flows(lab: Lab) -> None:
    hosts = two_hosts(lab)
    both = zip(arguments("udp"), certificate_arguments(hosts), strict=True)
    one, other = start(hosts, [[*where, *keys, "--rekey-after", "1"] for where, keys in both])
    assert ping(hosts[1], INNER4[0], count=150, interval=0.02) == 150
    assert not one.events("peer.down", "peer.refused") + other.events("peer.down", "peer.refused")
    assert (one.stop(), other.stop()) == (0, 0)


def refused(lab: Lab, hub: list[str], caller: list[str], hosts: tuple) -> tuple[str, str]:  # type: ignore[type-arg]
    """Start both ends; what each says of the other."""
    where = arguments("udp")
    one, other = End(hosts[0], *where[0], *hub), End(hosts[1], *where[1], *caller)
    said = one.wait_for("peer.refused")["message"], other.wait_for("peer.refused")["message"]
    assert not one.events("peer.up") + other.events("peer.up")
    assert (one.stop(), other.stop()) == (0, 0)
    return said


def test_a_certificate_of_another_authority_is_refused(lab: Lab) -> None:
    hosts, pki, foreign = two_hosts(lab), Pki(), Pki()
    for each in (pki, foreign):
        each.issue("hub")
        each.issue("alice")
    hub, caller = pki.give(hosts[0], "hub", "alice"), foreign.give(hosts[1], "alice", "hub")
    # it trusts the hub's authority, and so finds it
    write(hosts[1], "/run/ca.crt", pki.read("ca.crt"))
    at_hub, at_caller = refused(lab, hub, caller, hosts)
    why = "its certificate is of an unknown authority: compare --ca of both sides"
    assert at_hub.endswith(f": this side refuses the far end: {why}")
    assert at_caller == f"udp {OUTER4[0]}:{PORT}: the far end refuses this side: {why}"


def test_an_expired_certificate_is_refused(lab: Lab) -> None:
    hosts, pki = two_hosts(lab), Pki(lambda: now() - datetime.timedelta(days=5))
    pki.issue("hub", 30)
    pki.issue("alice", 2)
    at_hub, at_caller = refused(lab, pki.give(hosts[0], "hub", "alice"), pki.give(hosts[1], "alice", "hub"), hosts)
    assert at_hub.endswith("this side refuses the far end: its certificate has expired")
    assert at_caller.endswith("the far end refuses this side: its certificate has expired, or is not valid yet")


def test_a_hub_of_another_name_is_refused_by_the_caller(lab: Lab) -> None:
    hosts, pki = two_hosts(lab), Pki()
    for name in ("hub", "alice", "mallory"):
        pki.issue(name)
    at_hub, at_caller = refused(lab, pki.give(hosts[0], "mallory", "alice"), pki.give(hosts[1], "alice", "hub"), hosts)
    assert at_caller.endswith("this side refuses the far end: its certificate is that of mallory, not of hub")
    assert at_hub.endswith("the far end refuses this side: its certificate is that of mallory, not of hub")


def test_a_revoked_certificate_ends_the_session_and_is_refused_from_then_on(lab: Lab) -> None:
    hosts, pki = two_hosts(lab), Pki()
    pki.issue("hub")
    pki.issue("alice")
    hub, caller = pki.give(hosts[0], "hub", "alice", crl=True), pki.give(hosts[1], "alice", "hub")
    where = arguments("udp")
    one, other = start(hosts, [[*where[0], *hub], [*where[1], *caller]])
    assert ping(hosts[1], INNER4[0]) == 3
    pki.authority.revoke("alice")
    write(hosts[0], "/run/crl.pem", pki.read("crl.pem"))
    one.process.send_signal(signal.SIGHUP)
    assert one.wait_for("peer.down")["message"] == "down: its certificate is revoked"
    down = other.wait_for("peer.down")["message"]
    assert down == "down: closed by the far end: it does not let this side in any more"
    assert other.wait_for("peer.refused")["message"].endswith(
        "the far end refuses this side: its certificate is revoked"
    )
    assert ping(hosts[1], INNER4[0], wait=0.2) == 0
    assert (one.stop(), other.stop()) == (0, 0)
