"""Where values come from: the environment's own rules, what SIGHUP keeps, schemes, and words for misspelt keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from caetun.endpoint import Endpoint
from caetun.errors import ConfigurationError
from caetun.settings import Origin
from caetun.sources import load, mistakes, read_environment, reread, with_schemes

LEAST = {"listen": ":4500", "secret_file": "s.key"}


def written(folder: Path, text: str) -> Path:
    path = folder / "hub.toml"
    path.write_text(text)
    return path


# the environment


def test_variables_are_named_like_options_and_others_are_not_ours() -> None:
    environ = {"CAETUN_MTU": "1400", "CAETUN_NONSENSE": "x", "MTU": "9000", "caetun_span": "3"}
    assert read_environment(environ) == {"mtu": 1400}


def test_blanks_stand_between_the_values_of_what_may_be_repeated() -> None:
    found = read_environment({"CAETUN_ADDRESS": "10.0.0.1/24  fd00::1/64"})
    assert [str(each) for each in found["address"]] == ["10.0.0.1/24", "fd00::1/64"]


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False)])
def test_switches_take_words(text: str, value: bool) -> None:
    assert read_environment({"CAETUN_OFFLOAD": text}) == {"offload": value}


@pytest.mark.parametrize(("name", "text"), [("CAETUN_MTU", "big"), ("CAETUN_OFFLOAD", "perhaps")])
def test_a_wrong_variable_is_named(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        read_environment({name: text})


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, 'mtu = 1300\nspan = 3\nkeepalive = 7\nlog-level = "debug"\n')
    environ = {"CAETUN_CONFIG": str(path), "CAETUN_SPAN": "4", "CAETUN_KEEPALIVE": "8"}
    settings = load({**LEAST, "keepalive": "9"}, environ)
    assert (settings.mtu, settings.span, settings.keepalive) == (1300, 4, 9.0)
    origins = [settings.origins[name] for name in ("mtu", "span", "keepalive", "cipher")]
    assert origins == [Origin.FILE, Origin.ENVIRONMENT, Origin.FLAG, Origin.DEFAULT]


# SIGHUP


def test_what_comes_from_the_environment_stays_when_the_file_is_read_again(tmp_path: Path) -> None:
    path = written(tmp_path, "keepalive = 7\n")
    settings = load({**LEAST, "config": str(path)}, {"CAETUN_KEEPALIVE": "8", "CAETUN_LOG_LEVEL": "debug"})
    written(tmp_path, 'keepalive = 20\nlog-level = "error"\nspan = 5\n')
    fresh, applied, restart = reread(settings)
    assert (fresh.keepalive, fresh.log_level, fresh.span) == (8.0, "debug", 0)
    assert (applied, restart) == ((), ("span",))


def test_what_is_reloaded_knows_where_it_came_from(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    settings = load({**LEAST, "config": str(path)})
    written(tmp_path, 'log-level = "debug"\n')
    fresh, applied, _ = reread(settings)
    assert applied == ("log-level",)
    assert fresh.origins["log_level"] is Origin.FILE
    written(tmp_path, "")
    assert reread(fresh).settings.origins["log_level"] is Origin.DEFAULT


# schemes


def test_an_endpoint_without_a_scheme_stands_for_one_by_each_transport_the_best_of_all_first() -> None:
    one, other = Endpoint("", "192.0.2.1", 443), Endpoint("", "192.0.2.2", 443)
    named = Endpoint("quic", "192.0.2.3", 443)
    assert with_schemes([one, other, named, one], ["udp", "tcp"]) == (
        *(one._replace(scheme="udp"), other._replace(scheme="udp")),
        *(one._replace(scheme="tcp"), other._replace(scheme="tcp")),
        named,
        *(one._replace(scheme="udp"), one._replace(scheme="tcp")),
    )


# misspelt


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("keepaliv", "did you mean keepalive?"),
        ("log_level", "did you mean log-level?"),
        ("xyzzy", "docs/configuration"),
    ],
)
def test_a_key_that_does_not_exist(tmp_path: Path, key: str, words: str) -> None:
    (line,) = mistakes(written(tmp_path, f"mtu = 1400\n{key} = 1\n"))
    assert "line 2" in line
    assert words in line
