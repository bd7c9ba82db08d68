"""Modules of other packages: found by entry point, and held to what ours are held to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.auth.registry import Means, make_chain
from caetun.compression.registry import find, names, parse_methods
from caetun.errors import ConfigurationError, Malformed
from caetun.mangle.frame import Frame
from caetun.mangle.pipeline import Pipeline, Rule
from caetun.mangle.registry import wrapped
from caetun.mangle.rules import parse_rule
from caetun.types import DropReason
from tests.auth.claims import claim, denied
from tests.mangle.packets import Host, packet, sound, syn, udp
from tests.modules import install


@pytest.fixture(autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    for directory in install(tmp_path_factory.mktemp("site")):
        monkeypatch.syspath_prepend(directory)


def test_a_method_is_named_and_found_as_ours_are() -> None:
    assert names() == ("lz4", "zstd", "lost", "zlib")
    assert parse_methods("zlib,lz4") == ("zlib", "lz4")
    assert find("zlib").name == "zlib"
    with pytest.raises(ConfigurationError, match="lost needs the package caetun_lost, which is not installed"):
        find("lost")


def test_what_it_deflates_comes_back() -> None:
    method = find("zlib")

    @given(st.binary(min_size=1, max_size=3000) | st.builds(bytes, st.integers(1, 65520)))
    def comes_back(plain: bytes) -> None:
        assert method.inflate(memoryview(method.deflate(plain)), len(plain)) == plain

    comes_back()


@pytest.mark.parametrize("plain", [bytes(1399), bytes(1401), bytes(1 << 26)])
def test_it_stops_at_the_length_announced(plain: bytes) -> None:
    with pytest.raises(Malformed):
        find("zlib").inflate(find("zlib").deflate(plain), 1400)
    with pytest.raises(Malformed):
        find("zlib").inflate(b"\xff garbage", 1400)


def test_a_hook_changes_and_drops() -> None:
    host = Host("out hook tidy")
    (out, other) = host.send(packet(udp(dport=53)), packet(syn()))
    assert (out[1], other) == (0x80, packet(syn()))
    assert sound(out)
    options = bytearray(packet(udp()))
    options[0] = 0x46
    assert host.send(bytes(options)) == []
    assert host.drops == {DropReason.MANGLE_HOOK: 1}
    assert host.rules[0].frames == 2


def test_a_hook_that_raises_loses_the_frame_and_nothing_else() -> None:
    def fails(frame: Frame, outgoing: bool) -> bool:
        raise RuntimeError("not thought of")

    host = Host(pipeline=Pipeline([Rule("hook fails", True, True, (), wrapped(fails))]))
    assert host.send(packet(udp())) == host.receive(packet(udp())) == []
    assert host.drops == {DropReason.MANGLE_HOOK: 2}


@pytest.mark.parametrize("name", ["lost", "broken"])
def test_a_hook_that_does_not_load_is_told(name: str) -> None:
    with pytest.raises(ValueError, match=f"hook {name}: cannot be loaded: .*: is its package installed"):
        parse_rule(f"hook {name}")


def test_an_authentication_module_is_named_and_found_as_ours_are() -> None:
    known, hours = make_chain(["key", "hours"], Means(None, None, None, False))
    assert (known.name, hours.name) == ("key", "hours")
    noon = 12 * 3600.0
    assert hours.check(claim(wall=noon)) == ""
    assert denied(hours, claim(wall=noon + 12 * 3600)).why == "closed: come back in working hours"


def test_one_that_does_not_load_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"--auth: lost: cannot be loaded: ModuleNotFoundError: .*package"):
        make_chain(["lost"], Means(None, None, None, False))
