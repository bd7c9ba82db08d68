"""Names found outside of the tunnel: by /etc/hosts, by the servers there were before, by memory."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from caetun.gateway import dns, lookup
from caetun.gateway.lookup import OuterLookup, OuterServers
from caetun.wire.dns import AAAA


@contextmanager
def server(monkeypatch: pytest.MonkeyPatch, answer: Callable[[bytes, int], bytes]) -> Iterator[str]:
    """A name server on the loopback; `answer`: from a query and the kind of its records. Yields its address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        monkeypatch.setattr(lookup, "_PORT", sock.getsockname()[1])

        def serve() -> None:
            while True:
                query, source = sock.recvfrom(512)
                if not query:
                    return
                (kind,) = struct.unpack(">H", query[-4:-2])
                sock.sendto(answer(query, kind), source)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield "127.0.0.1"
        finally:
            sock.sendto(b"", sock.getsockname())
            thread.join()


def answered(query: bytes, *addresses: str, code: int = 0) -> bytes:
    records = b"".join(
        b"\xc0\x0c"
        + struct.pack(">HHIH", 28 if ":" in each else 1, 1, 60, len(ip_address(each).packed))
        + ip_address(each).packed
        for each in addresses
    )
    return query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(addresses), 0, 0) + query[12:] + records


def both(query: bytes, kind: int) -> bytes:
    return answered(query, "::1" if kind == AAAA else "127.0.0.9")


def addresses(found: list[object]) -> set[str]:
    return {each[4][0] for each in found}  # type: ignore[index]


def ask(outer: OuterLookup, name: str, family: int = 0) -> set[str]:
    return addresses(outer.getaddrinfo(name, 443, family, socket.SOCK_STREAM))


def test_both_kinds_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(monkeypatch, both) as where:
        outer = OuterLookup(0, lambda: [where])
        assert ask(outer, "hub.example", socket.AF_INET) == {"127.0.0.9"}
        (found,) = outer.getaddrinfo("hub.example", 443, socket.AF_INET, socket.SOCK_DGRAM)
        assert found == (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP, "", ("127.0.0.9", 443))


def test_one_kind_may_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_old(query: bytes, kind: int) -> bytes:
        return answered(query, code=5) if kind == AAAA else answered(query, "127.0.0.9")

    with server(monkeypatch, only_old) as where:
        assert ask(OuterLookup(0, lambda: [where]), "hub.example") == {"127.0.0.9"}


def test_a_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        server(monkeypatch, lambda query, _: answered(query, code=3)) as where,
        pytest.raises(socket.gaierror, match="there is no such name"),
    ):
        ask(OuterLookup(0, lambda: [where]), "hub.example")


def test_the_next_server_is_asked_and_then_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "PATIENCE", 0.05)
    with server(monkeypatch, both) as where:
        outer = OuterLookup(0, lambda: servers)
        servers = ["127.0.0.2", where]
        assert "127.0.0.9" in ask(outer, "hub.example", socket.AF_INET)
        servers = []
        assert "127.0.0.9" in ask(outer, "hub.example", socket.AF_INET)
        with pytest.raises(socket.gaierror, match="no name server is known"):
            ask(outer, "other.example")
        servers = ["127.0.0.2"]
        with pytest.raises(socket.gaierror, match="the name servers cannot tell"):
            ask(outer, "other.example")


def test_memory_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(monkeypatch, both) as where:
        servers = [where]
        outer = OuterLookup(0, lambda: servers)
        for number in range(lookup.MAX_REMEMBERED + 1):
            ask(outer, f"hub{number}.example", socket.AF_INET)
        servers = []
        assert ask(outer, f"hub{lookup.MAX_REMEMBERED}.example", socket.AF_INET)
        with pytest.raises(socket.gaierror):
            ask(outer, "hub0.example")


def test_garbage_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "PATIENCE", 0.05)
    with (
        server(monkeypatch, lambda query, _: query[:2] + b"garbage") as where,
        pytest.raises(socket.gaierror, match="cannot tell"),
    ):
        ask(OuterLookup(0, lambda: [where]), "hub.example")


def test_hosts_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("# 127.0.0.1 hub.example\nnonsense hub.example\n127.0.0.7  other Hub.Example # ours\n")
    monkeypatch.setattr(lookup, "_HOSTS", hosts)
    assert ask(OuterLookup(0, list), "hub.example.") == {"127.0.0.7"}


def test_numbers_are_not_asked_for() -> None:
    assert ask(OuterLookup(0, list), "127.0.0.3") == {"127.0.0.3"}


@pytest.mark.parametrize(
    ("ours_is_there", "stub", "expected"),
    [(False, False, ["10.1.1.1"]), (True, False, ["10.2.2.2"]), (False, True, ["10.3.3.3"])],
    ids=["before", "replaced by ours", "systemd-resolved"],
)
def test_which_servers_those_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ours_is_there: bool, stub: bool, expected: list[str]
) -> None:
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr(dns, "RESOLV_CONF", path)
    monkeypatch.setattr(dns, "RESOLVED_UPSTREAM", tmp_path / "upstream")
    (tmp_path / "upstream").write_text("nameserver 10.8.0.2\nnameserver 10.3.3.3\n")
    path.write_text("nameserver 127.0.0.53\n" if stub else "nameserver 10.1.1.1\n")
    if ours_is_there:
        path.write_text("# caetun tun0: ours\nnameserver 10.8.0.2\n")
        dns.kept_as("tun0").write_text("nameserver 10.2.2.2\n")
    assert OuterServers(lambda: "tun0", lambda: ["10.8.0.2"])() == expected
