"""A loop outside: two sites that are joined by a cable, too. It is found, named and cut, and the rest goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from caetun.lab import Lab
from caetun.lab.network import Port
from tests.tunnel.campus import Campus, Place, Plan, Site, campus, enslave
from tests.tunnel.ends import ping
from tests.tunnel.watch import until

pytestmark = pytest.mark.needs("namespaces", "tun", "ip", "ping")

_SECONDS: Final = 5.0


@pytest.fixture(scope="module")
def three() -> Iterator[tuple[Lab, Campus]]:
    with Lab() as lab:
        made = campus(lab, Plan([Site("attic"), Site("cellar", "tcp"), Site("office")], hub=1))
        yield lab, made
        assert made.stop() == [0] * 4


def join(lab: Lab, one: Place, other: Place) -> tuple[Port, Port]:
    """A cable between the bridges of two places."""
    ports = lab.link(one.host, other.host)
    for place, port in zip((one, other), ports, strict=True):
        enslave(place.host, port.device)
    return ports


def test_a_second_cable_between_two_sites(three: tuple[Lab, Campus]) -> None:
    lab, made = three
    attic, cellar, office = made.sites
    assert ping(attic.lan[0], office.address()) == 3
    join(lab, attic, cellar)
    office.lan[0].spawn(["ping", "-n", "-q", "-b", "-i", "0.1", "-c", "50", "10.88.255.255"], stdout=-3, stderr=-3)
    event = made.hub.end.wait_for("bridge.muted", seconds=_SECONDS)
    assert "attic" in event["message"]
    assert "cellar is muted for 30 s" in event["message"]
    assert made.port("cellar")["state"] == "muted"
    for place in (attic, cellar, made.hub):  # the cellar by way of the attic
        until(lambda: ping(office.lan[0], place.address()) == 3, f"{place.name} answers", _SECONDS)  # noqa: B023
    assert made.port("attic")["state"] == made.port("office")["state"] == "up"
