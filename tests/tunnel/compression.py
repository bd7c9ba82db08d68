"""Bytes of one's choice through a tunnel: what tests of compression are written with."""

from __future__ import annotations

import socket
import threading
import time
from typing import Final

from caetun.lab import Host
from tests.tunnel.ends import INNER4

_PORT: Final = 5300


def carried(hosts: tuple[Host, Host], content: bytes, seconds: float = 1.0) -> float:
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
            while time.monotonic() - begun < seconds:
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
