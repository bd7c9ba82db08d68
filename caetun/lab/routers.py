"""Several networks and the hosts between them: where a firewall, a NAT or a narrow link stands in the way.

    client, router, server = (lab.host(name) for name in ("client", "router", "server"))
    (client_port, _), (_, server_port) = routed(lab, (client, router), (router, server))
    client.run(["ping", "-c", "1", server_port.address])

Network n, counted from 1, has the addresses 10.98.n.1 and .2, fd98:n::1 and ::2 (n hexadecimal).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

from caetun.lab.network import Cable, Host, Lab, Port

Way: TypeAlias = tuple[Host, Host] | tuple[Host, Host, Cable]
"""Two hosts that share a network, and what lies between them."""


def routed(lab: Lab, *ways: Way) -> list[tuple[Port, Port]]:
    """Connect hosts, each way a network of its own, and let every host reach every network by the shortest way.

    At most 255 ways. Hosts on more than one become routers. Returns both ends of each way. Needs `ip`.
    """
    ends = [_connect(lab, number, *way) for number, way in enumerate(ways, 1)]
    for host in {port.host: None for pair in ends for port in pair}:
        if sum(port.host is host for pair in ends for port in pair) > 1:
            host.set("net.ipv4.ip_forward", 1)
            host.set("net.ipv6.conf.all.forwarding", 1)
        routes = _routes(host, ends)
        if routes:
            host.run(["ip", "-batch", "-"], text="".join(f"route add {net} via {gate}\n" for net, gate in routes))
    return ends


def _connect(lab: Lab, number: int, one: Host, other: Host, cable: Cable = Cable()) -> tuple[Port, Port]:  # noqa: B008 - frozen
    left, right = ([f"10.98.{number}.{side}/24", f"fd98:{number:x}::{side}/64"] for side in (1, 2))
    return lab.link(one, other, left=left, right=right, cable=cable)


def _routes(host: Host, ends: Sequence[tuple[Port, Port]]) -> list[tuple[str, str]]:
    """Network and gateway, for every network that the host is not on."""
    gates = _gates(host, ends)
    routes = []
    for number, pair in enumerate(ends, 1):
        hosts = [port.host for port in pair]
        nearest = next((found for found in gates if found in hosts), None)
        if nearest is not None and (gate := gates[nearest]) is not None:
            four, six = (address.partition("/")[0] for address in gate.addresses)
            routes += [(f"10.98.{number}.0/24", four), (f"fd98:{number:x}::/64", six)]
    return routes


def _gates(start: Host, ends: Sequence[tuple[Port, Port]]) -> dict[Host, Port | None]:
    """All hosts that can be reached, nearest first, each with the far port of the first step to it."""
    gates: dict[Host, Port | None] = {start: None}
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        for near, far in (pair[::step] for pair in ends for step in (1, -1)):
            if near.host is here and far.host not in gates:
                gates[far.host] = gates[here] or far
                waiting.append(far.host)
    return gates
