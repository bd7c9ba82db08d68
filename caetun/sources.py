"""Where the values of `Settings` come from: flags win over the environment, that over the file, the file over defaults.

load() at start -> Settings -> reread() on SIGHUP -> Reread
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from caetun.coherence import check
from caetun.errors import ConfigurationError
from caetun.options import SWITCH
from caetun.settings import OPTIONS, Origin, Settings

if TYPE_CHECKING:
    from caetun.configfile import ConfigFile
    from caetun.endpoint import Endpoint
    from caetun.ports import PeerRef

# chosen by us
_PRIVATE_KEY: Final = "private-key"
"""In a file that is all a host needs, instead of `key`: the private key itself (`caetun join` writes it)."""


class Reread(NamedTuple):
    """What SIGHUP brought: settings to go on with, keys changed now, keys that take a restart."""

    settings: Settings
    applied: tuple[str, ...]
    restart: tuple[str, ...]


def load(flags: Mapping[str, object], environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from flags (field name -> text, list of texts or bool, as argparse leaves them) and the file they name.

    `environ`: the environment. Raises ConfigurationError.
    """
    given: dict[str, Any] = {}
    for name, raw in flags.items():
        option = OPTIONS[name]
        try:
            given[name] = option.read(raw)
        except ValueError as error:
            raise ConfigurationError(f"{option.flag}: {error}") from None
    settings = _merge(given, read_environment(environ or {}))
    check(settings)
    return settings


def read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Values by field name of the variables that are named like options: CAETUN_MTU=1400. Raises ConfigurationError.

    Of a repeatable option blanks stand between the values.
    """
    values: dict[str, Any] = {}
    for option in OPTIONS.values():
        variable = f"CAETUN_{option.name.upper()}"
        text = environ.get(variable)
        if text is None:
            continue
        raw: object = text.split() if option.repeatable else text
        if option.kind is SWITCH:
            raw = {"true": True, "false": False}.get(text.lower(), text)
        try:
            values[option.name] = option.read(raw)
        except ValueError as error:
            raise ConfigurationError(f"{variable}: {error}") from None
    return values


def reread(settings: Settings) -> Reread:
    """Read the configuration file again (SIGHUP). Flags keep their precedence; only reloadable options change.

    Raises ConfigurationError, and then nothing has changed.
    """
    if settings.config is None:
        return Reread(settings, (), ())
    kept = {
        origin: {name: getattr(settings, name) for name, come in settings.origins.items() if come is origin}
        for origin in (Origin.FLAG, Origin.ENVIRONMENT)
    }
    fresh = _merge(kept[Origin.FLAG], kept[Origin.ENVIRONMENT])
    check(fresh)
    changed = [name for name in OPTIONS if getattr(fresh, name) != getattr(settings, name)]
    now = [name for name in changed if OPTIONS[name].reloadable]
    values: dict[str, Any] = {name: getattr(fresh, name) for name in now}
    origins = {**settings.origins, **{name: fresh.origins[name] for name in now}}
    return Reread(
        dataclasses.replace(settings, **values, origins=origins),
        tuple(OPTIONS[name].key for name in now),
        tuple(OPTIONS[name].key for name in changed if name not in now),
    )


def read_file(path: Path) -> dict[str, Any]:
    """Values by field name from a TOML file, or one in the manner of WireGuard if its name ends in `.conf`.

    Paths in it are relative to its folder. Raises ConfigurationError.

    `[pool] network = ...` is another way to write `pool-network = ...`.
    """
    if path.suffix == ".conf":
        # Imported here: most files are TOML.
        from caetun.conffile import read_conf

        return read_conf(path, OPTIONS)
    values, wrong = _read(_open(path))
    if wrong:
        raise ConfigurationError(wrong[0])
    return values


def mistakes(path: Path) -> list[str]:
    """All that is wrong with the keys of a file, a line each. Raises ConfigurationError if it cannot be read at all."""
    if path.suffix == ".conf":
        read_file(path)
        return []
    return _read(_open(path))[1]


def _open(path: Path) -> ConfigFile:
    # Imported here: it loads the parser of TOML.
    from caetun.configfile import ConfigFile

    return ConfigFile(path)


def _read(file: ConfigFile) -> tuple[dict[str, Any], list[str]]:
    """Values by field name, and what is wrong with the rest."""
    path = file.path
    values: dict[str, Any] = {}
    wrong: list[str] = []
    by_key = {option.key: option for option in OPTIONS.values() if option.in_file}
    for key, raw in file.values(by_key).items():
        if key == _PRIVATE_KEY:
            values["key"] = path  # which is read as a key file, too
            continue
        if key not in by_key:
            wrong.append(f"{path}: {file.line(key)}{key}: no such option: {_suggestion(key, by_key)}")
            continue
        option = by_key[key]
        if isinstance(raw, dict) and option.kind.table is None:
            advice = _suggestion(f"{key}-{next(iter(raw), '')}", by_key)
            wrong.append(f"{path}: {file.line(key)}{key}: is no table: {advice} It is written above all tables")
            continue
        try:
            value = option.read(raw)
        except ValueError as error:
            wrong.append(f"{path}: {file.line(key, str(error))}{key}: {error}")
            continue
        values[option.name] = path.parent / value if isinstance(value, Path) else value
    return values, wrong


def _merge(given: dict[str, Any], environment: dict[str, Any]) -> Settings:
    """Values from flags, then from the environment, then from the file these name, then defaults."""
    path: Path | None = given.get("config", environment.get("config"))
    file = {} if path is None else read_file(path)
    origins = dict.fromkeys(OPTIONS, Origin.DEFAULT)
    origins.update(dict.fromkeys(file, Origin.FILE))
    origins.update(dict.fromkeys(environment, Origin.ENVIRONMENT))
    origins.update(dict.fromkeys(given, Origin.FLAG))
    settings = Settings(**{**file, **environment, **given}, origins=origins)
    places: dict[str, Any] = {
        name: with_schemes(getattr(settings, name), settings.transport) for name in ("listen", "connect", "public")
    }
    return dataclasses.replace(settings, **places, peer=_with_defaults(settings))


def _with_defaults(settings: Settings) -> tuple[PeerRef, ...]:
    """Peers, with what is said of all ports and not otherwise of theirs. Raises ConfigurationError."""
    peers: list[PeerRef] = []
    for peer in settings.peer if settings.port_defaults.words else ():
        try:
            port = peer.port.over(settings.port_defaults)
            port.settings("port")
        except ValueError as error:
            raise ConfigurationError(f"--port-defaults, with --peer {peer.port}: {error}") from None
        peers.append(peer._replace(port=port))
    return tuple(peers) or settings.peer


def with_schemes(endpoints: Iterable[Endpoint], transports: Sequence[str]) -> tuple[Endpoint, ...]:
    """Endpoints that name no transport stand for one by each, the best transport of all of them first."""
    given: list[Endpoint] = []
    for named, group in groupby(endpoints, key=lambda endpoint: bool(endpoint.scheme)):
        several = list(group)
        given += several if named else [each._replace(scheme=name) for name in transports for each in several]
    return tuple(given)


def _suggestion(word: str, known: Mapping[str, object]) -> str:
    import difflib  # here: most have no need of it

    tables = {key.partition("-")[0] for key in known}
    near = difflib.get_close_matches(word.replace("_", "-"), [*known, *sorted(tables - known.keys())], n=1)
    return f"did you mean {near[0]}?" if near else "see docs/configuration.md for those there are"
