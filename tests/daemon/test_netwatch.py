"""Changes of the host's network are told."""

from __future__ import annotations

import asyncio

import pytest

from caetun.daemon.netwatch import NetWatch
from caetun.lab import Lab


@pytest.mark.needs("namespaces")
async def test_an_address_that_comes_or_goes_is_told_once() -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    times = []

    def changed() -> None:
        times.append(loop.time())
        told.set()

    with Lab() as lab:
        host = lab.host("one")
        watch = host.inside(lambda: NetWatch(loop, changed))
        try:
            changes = (
                "ip address add 192.0.2.1/24 dev lo",
                "ip route add 198.51.100.0/24 dev lo",
                "ip address flush dev lo",
            )
            for command in changes:
                host.run(command.split())
                async with asyncio.timeout(5):
                    await told.wait()
                told.clear()
        finally:
            watch.close()
            watch.close()
    assert len(times) == 3
