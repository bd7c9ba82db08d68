"""TCP options: where the segment size is, by dpkt's reading; and any bytes."""

from __future__ import annotations

import dpkt
from hypothesis import given
from hypothesis import strategies as st

from caetun.wire.tcp import mss_at


def header(options: bytes, flags: int = dpkt.tcp.TH_SYN) -> bytes:
    options += bytes(-len(options) % 4)
    return bytes(dpkt.tcp.TCP(flags=flags, off=5 + len(options) // 4, opts=options))


def test_it_is_found_behind_others() -> None:
    for before in (b"", b"\1", b"\1\1", b"\4\2", b"\3\3\7", b"\x08\x0a" + bytes(8)):
        assert mss_at(b"ab" + header(before + b"\2\4\5\xb4"), 2) == 2 + 20 + len(before) + 2


def test_it_is_not_there() -> None:
    for options in (b"", b"\0\2\4\5\xb4", b"\2\3\5", b"\1\2\4\5", b"\5\0\2\4\5\xb4", b"\1\1\1\2"):
        assert mss_at(header(options), 0) is None
    assert mss_at(header(b"\2\4\5\xb4", dpkt.tcp.TH_ACK), 0) is None
    assert mss_at(header(b"\2\4\5\xb4")[:23], 0) is None


@given(st.binary(max_size=80), st.integers(0, 90))
def test_any_bytes(content: bytes, at: int) -> None:
    found = mss_at(content, at)
    assert found is None or content[found - 2 : found] == b"\2\4"
