"""A transport of another package: found by its entry point, and held to the same contract as ours."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from caetun.endpoint import Endpoint, parse_endpoint, parse_transports
from caetun.errors import ConfigurationError
from caetun.transports import registry
from caetun.transports.base import Context, Options, Target
from caetun.types import Drops
from tests.transports import test_contract
from tests.transports.recorder import Recorder
from tests.transports.rigs import SESSIONS, Rig, Side

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "caetun_rawip.py"
PROTOCOL = 253


def load() -> ModuleType:
    """The example in the documentation, imported as `caetun_rawip`."""
    if EXAMPLE.stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(EXAMPLE.stem, EXAMPLE)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[EXAMPLE.stem] = module
        spec.loader.exec_module(module)
    return sys.modules[EXAMPLE.stem]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package had been installed."""
    load()
    information = tmp_path / "caetun_rawip-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: caetun-rawip\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[caetun.transports]\nrawip = caetun_rawip:TRANSPORT\nlost = caetun_lost:TRANSPORT\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


class StuckSocket(socket.socket):
    """Takes nothing while it is `stuck`."""

    stuck = False

    def sendto(self, *arguments: Any) -> int:
        if self.stuck:
            raise BlockingIOError
        return super().sendto(*arguments)


class RawRig(Rig):
    """Two addresses of the loopback interface."""

    def __init__(self) -> None:
        module = load()
        self.drops = Drops(), Drops()
        near = module.RawEndpoint(PROTOCOL, "127.0.0.2", self.drops[0])
        far = module.RawEndpoint(PROTOCOL, "127.0.0.3", self.drops[1])
        self._socket = near.sock = StuckSocket(fileno=near.sock.detach())
        self._socket.setblocking(False)
        self.near, self.far = Side(near, self.drops[0]), Side(far, self.drops[1])
        self.link = near.link("127.0.0.3")

    async def until(self, condition: Callable[[], object]) -> None:
        both = [asyncio.ensure_future(side.arrivals.until(condition)) for side in (self.near, self.far)]
        done, pending = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for waiting in pending:
            waiting.cancel()
        for over in done:
            over.result()

    async def turn(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    def block(self, blocked: bool) -> None:
        self._socket.stuck = blocked


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = RawRig()
    yield made
    made.close()


@pytest.mark.needs("root")
class TestExample(test_contract.TestContract):
    """The contract, as it is."""


def test_its_name_is_known_as_ours_are(installed: None) -> None:
    assert registry.names()[-2:] == ("lost", "rawip")
    assert parse_transports("udp,rawip") == ("udp", "rawip")
    assert parse_endpoint("rawip://192.0.2.1") == Endpoint("rawip", "192.0.2.1", 253)
    assert registry.find("rawip").name == "rawip"


def test_a_package_that_does_not_load_is_told(installed: None) -> None:
    with pytest.raises(ConfigurationError, match="transport lost: needs the package caetun_lost"):
        registry.find("lost")


@pytest.mark.needs("root")
async def test_a_name_is_dialled(installed: None) -> None:
    context = Context(asyncio.get_running_loop(), Recorder(), SESSIONS, Drops(), Options(), lambda *_: None)
    transport = registry.find("rawip")
    (link,) = await transport.dial(Target("localhost", PROTOCOL), context)
    assert link.name == "rawip 127.0.0.1:253"
    for endpoint in context.shared.values():
        endpoint.close()
