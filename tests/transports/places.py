"""Addresses that answer, refuse or keep silent, and what is left open afterwards: fixtures for tests that dial."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address that lets a connection begin and never answers: its backlog is full."""
    waiting = socket.create_server(("127.0.0.2", 0), backlog=0)
    callers = []
    for _ in range(4):
        caller = socket.socket()
        caller.setblocking(False)
        caller.connect_ex(waiting.getsockname())
        callers.append(caller)
    yield waiting.getsockname()
    for sock in (waiting, *callers):
        sock.close()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as waiting:
        waiting.setblocking(False)
        yield waiting


@pytest.fixture
def refused() -> tuple[str, int]:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.3", 0)) as waiting:
        address: tuple[str, int] = waiting.getsockname()
    return address


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
