"""A TCP connection through the tunnel that never ends, and when it got something through: how long it stood still."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Final

from caetun.lab import Host

# chosen by us
_PORT: Final = 5300
_CHUNK: Final = bytes(1 << 16)
_PATIENCE: Final = 30.0
"""Seconds without progress after which the connection counts as broken."""


class Flow:
    """Sends from one host to another as fast as it goes, until the end of the `with` block."""

    def __init__(self, sender: Host, receiver: Host, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with receiver.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, _PORT))
            listener.listen(1)
            self._out = sender.socket(family, socket.SOCK_STREAM)
            self._out.settimeout(_PATIENCE)
            self._out.connect((address, _PORT))
            self._in, _ = listener.accept()
        self._in.settimeout(_PATIENCE)
        self.octets = 0
        self.arrived_at = time.monotonic()
        self.longest_gap = 0.0
        """Seconds without anything, since `reset`."""
        self.error: OSError | None = None
        self._over = False
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._receive)]

    def __enter__(self) -> Flow:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over = True
        with contextlib.suppress(OSError):
            self._out.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_PATIENCE)
        self._out.close()
        self._in.close()

    def reset(self) -> None:
        """Measure from now on."""
        self.longest_gap, self.arrived_at = 0.0, time.monotonic()

    def gap(self) -> float:
        """The longest standstill since `reset`, the one that may last still included."""
        return max(self.longest_gap, time.monotonic() - self.arrived_at)

    def _send(self) -> None:
        try:
            while not self._over:
                self._out.sendall(_CHUNK)
        except OSError as error:
            if not self._over:
                self.error = error

    def _receive(self) -> None:
        try:
            while got := len(self._in.recv(1 << 20)):
                now = time.monotonic()
                self.longest_gap = max(self.longest_gap, now - self.arrived_at)
                self.arrived_at = now
                self.octets += got
        except OSError as error:
            if not self._over:
                self.error = error
