"""Compression methods by name: ours, those of other packages, and what people get wrong."""

from __future__ import annotations

import sys

import pytest

from caetun.compression.registry import find, names, parse_methods
from caetun.errors import ConfigurationError


def test_ours() -> None:
    assert names()[:2] == ("lz4", "zstd")
    assert find("zstd").name == "zstd"
    assert parse_methods("zstd, lz4") == ("zstd", "lz4")
    assert parse_methods("none") == ()


@pytest.mark.parametrize("text", ["", "gzip", "lz4,none", "lz4,,zstd", "LZ4"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no compression: give none, or some of lz4, zstd"):
        parse_methods(text)


def test_twice() -> None:
    with pytest.raises(ValueError, match="named twice"):
        parse_methods("lz4,lz4")


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.delitem(sys.modules, "caetun.compression.zstd", raising=False)
    with pytest.raises(ConfigurationError, match=r"zstd needs the package zstandard, .*: pip install zstandard"):
        find("zstd")
