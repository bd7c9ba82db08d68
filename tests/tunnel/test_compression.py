"""Compression between two hosts: agreed on by both, left out where one end has none, and worth it on a slow path."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from typing import Final

import pytest

from caetun.lab import Cable, Host, Lab
from tests.tunnel.ends import INNER4, End, await_ping, ping, start, tunnel_arguments, two_hosts
from tests.tunnel.show import show

pytestmark = pytest.mark.needs("namespaces", "tun", "ping", "rate")

SLOW: Final = Cable(rate=20_000_000)
_SECONDS: Final = 1.0
_PORT: Final = 5300


def ends(lab: Lab, *compress: Sequence[str], cable: Cable = SLOW) -> tuple[tuple[Host, Host], tuple[End, End]]:
    """Two ends with these arguments on top."""
    hosts = two_hosts(lab, cable)
    pairs = zip(tunnel_arguments(hosts, "tap"), compress, strict=True)
    return hosts, start(hosts, [[*arguments, *more] for arguments, more in pairs])


def carried(hosts: tuple[Host, Host], content: bytes) -> float:
    """Bits per second of `content`, sent over and over by TCP through the tunnel."""
    one, other = hosts
    with one.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((INNER4[0], _PORT))
        listener.listen(1)
        listener.settimeout(10)
        sender = other.socket(socket.AF_INET, socket.SOCK_STREAM)
        sender.settimeout(10)
        thread = threading.Thread(target=_pour, args=(sender, content), daemon=True)
        thread.start()
        arriving, _ = listener.accept()
        with arriving:
            arriving.settimeout(10)
            received, begun = 0, time.monotonic()
            while time.monotonic() - begun < _SECONDS:
                received += len(arriving.recv(1 << 20))
            rate = received * 8 / (time.monotonic() - begun)
        thread.join(10)
        return rate


def _pour(sock: socket.socket, content: bytes) -> None:
    with sock:
        sock.connect((INNER4[0], _PORT))
        try:
            while True:
                sock.sendall(content)
        except OSError:
            return


def prose(size: int) -> bytes:
    """Lines of a log: they shrink to less than a third."""
    lines = (
        f"10:{at % 60:02}:{at * 7 % 60:02} info  request {at * 7919 % 100_003} answered in {at * 31 % 997} ms\n"
        for at in range(size // 40)
    )
    return "".join(lines).encode()


@pytest.mark.parametrize("method", ["lz4", pytest.param("zstd", marks=pytest.mark.slow)])
def test_more_gets_through_a_slow_path(method: str) -> None:
    with Lab() as lab:
        hosts, both = ends(lab, ["--compress", method], ["--compress", method])
        rate = carried(hosts, prose(1 << 20))
        assert rate > 1.6 * SLOW.rate, f"{rate / 1e6:.1f} Mbit/s"
        (row,) = show(both[1], "peers")
        assert row["compression"].startswith(f"{method}, ")
        assert not [name for end in both for name in end.drops() if name.startswith("compression")]


def test_one_end_without_is_sent_none() -> None:
    with Lab() as lab:
        hosts, both = ends(lab, ["--compress", "zstd,lz4"], [], cable=Cable())
        await_ping(hosts[0], INNER4[1])
        assert ping(hosts[0], INNER4[1], size=4000) == 3
        assert carried(hosts, prose(1 << 20)) > 0
        assert [show(end, "peers")[0]["compression"] for end in both] == ["", ""]
        assert not [name for end in both for name in end.drops() if name.startswith("compression")]
