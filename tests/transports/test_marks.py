"""Every socket that a tunnel opens outside has its mark."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from caetun.errors import NetworkError
from caetun.lab import Host, Lab
from caetun.transports.listener import _bind
from caetun.transports.marks import mark_of, set_mark
from caetun.transports.reach import connect
from caetun.transports.udp_socket import FLOOR, bind_socket, path_ceiling, reaches

pytestmark = pytest.mark.needs("namespaces")

MARK = 0xCAE7


@pytest.fixture
def host(lab: Lab) -> Host:
    """A host whose marked packets alone find a way, by a narrow link."""
    host, other = lab.host("host"), lab.host("other")
    lab.link(host, other, left=["10.1.1.1/24"], right=["10.1.1.2/24"])
    host.run(["ip", "link", "set", "eth0", "mtu", "1400"])
    host.run(["ip", "route", "add", "192.0.2.0/24", "via", "10.1.1.2", "table", "77"])
    host.run(["ip", "rule", "add", "fwmark", str(MARK), "lookup", "77"])
    return host


@pytest.mark.parametrize(
    "opened",
    [
        lambda: bind_socket("127.0.0.1", 0, socket.AF_INET, MARK),
        lambda: _bind("127.0.0.1", 0, MARK),
    ],
    ids=["udp", "tcp listener"],
)
def test_it_is_on_the_socket(host: Host, opened: Callable[[], socket.socket]) -> None:
    with host.inside(opened) as sock:
        assert mark_of(sock) == MARK


def test_it_is_on_a_connection(host: Host) -> None:
    async def call(port: int) -> socket.socket:
        return await connect("127.0.0.1", port, asyncio.get_running_loop(), MARK)

    def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with asyncio.run(call(listener.getsockname()[1])) as sock:
                assert mark_of(sock) == MARK
            with listener.accept()[0] as accepted:
                assert mark_of(accepted) == 0

    host.inside(work)


def test_the_kernel_is_asked_about_the_way_with_the_mark(host: Host) -> None:
    far = ("192.0.2.1", 443)

    def work() -> None:
        assert not reaches("10.1.1.1", socket.AF_INET, far)
        assert reaches("10.1.1.1", socket.AF_INET, far, MARK)
        assert path_ceiling(socket.AF_INET, far) == FLOOR
        assert path_ceiling(socket.AF_INET, far, MARK) == 1400 - 28

    host.inside(work)


def test_without_permission_there_is_one_line() -> None:
    class Refusing:
        def setsockopt(self, *_: int) -> None:
            raise PermissionError(1, "Operation not permitted")

        def close(self) -> None:
            pass

    with pytest.raises(NetworkError, match="cannot be marked: no permission: run as root or give CAP_NET_ADMIN"):
        set_mark(Refusing(), MARK)  # type: ignore[arg-type]
