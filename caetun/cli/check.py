"""`caetun check FILE`: what a configuration would do, and where each setting comes from; every mistake at once."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from caetun.cli.flags import Parser, add_options, given
from caetun.cli.show import table
from caetun.configfile import ConfigFile
from caetun.errors import ConfigurationError
from caetun.settings import OPTIONS, Origin
from caetun.sources import load, mistakes

if TYPE_CHECKING:
    from caetun.settings import Settings

# chosen by us
_VARIABLES: Final = "CAETUN_"
_EXAMPLES: Final = """\
examples:
  caetun check /etc/caetun/hub.toml            what is set, by whom, and what it does
  caetun check hub.toml --all                  the defaults, too
  caetun check hub.toml --mtu 1400             as it would be with this flag

Exit status 0: the configuration is sound. 2: it is not; each mistake is one line on standard error.
"""


def main(argv: list[str]) -> int:
    """Check a file; returns the exit status. Raises ConfigurationError if there is one mistake only."""
    parser = Parser("caetun check", "Check a configuration, and tell what it does.", "caetun check FILE", _EXAMPLES)
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("--all", action="store_true", help="show settings that have their default, too")
    add_options(parser, without=("config",))
    arguments = parser.read(argv)
    path: Path = arguments.file
    found = mistakes(path)
    for line in found:
        print(f"caetun: {line}", file=sys.stderr)
    if found:
        return ConfigurationError.exit_status
    settings = load({**given(arguments), "config": str(path)}, os.environ)
    _check_files(settings)
    _warn(os.environ)
    file = None if path.suffix == ".conf" else ConfigFile(path)
    print(table(_rows(settings, file, arguments.all)))
    print(f"\n{path} is sound: {_purpose(settings)}")
    return 0


def _check_files(settings: Settings) -> None:
    """Whether the files it names are there and hold what they should. Raises ConfigurationError."""
    from caetun.keyfiles import load_keys

    for warning in load_keys(settings).warnings:
        print(f"caetun: warning: {warning}", file=sys.stderr)


def _warn(environ: Mapping[str, str]) -> None:
    """Variables that look like options, and are none."""
    known = [f"{_VARIABLES}{name.upper()}" for name in OPTIONS]
    for variable in environ:
        if variable.startswith(_VARIABLES) and variable not in known:
            near = difflib.get_close_matches(variable, known, n=1)
            advice = f": did you mean {near[0]}?" if near else ""
            print(f"caetun: warning: {variable}: no option is named so{advice}", file=sys.stderr)


def _rows(settings: Settings, file: ConfigFile | None, everything: bool) -> list[dict[str, str]]:
    rows = []
    for name, option in OPTIONS.items():
        origin = settings.origins[name]
        if name == "config" or (origin is Origin.DEFAULT and (option.hidden or not everything)):
            continue
        value = getattr(settings, name)
        line = "" if file is None else file.line(option.key).removesuffix(": ")
        place = {
            Origin.FILE: f"file, {line}" if line else "file",
            Origin.FLAG: f"flag {option.flag}",
            Origin.ENVIRONMENT: f"environment, {_VARIABLES}{name.upper()}",
            Origin.DEFAULT: "default",
        }[origin]
        help_text = option.help.replace("`", "")
        rows.append({"setting": option.key, "value": _short(name, value), "from": place, "what it does": help_text})
    return rows


def _short(name: str, value: object) -> str:
    """In one line: keys of peers take a line each in the file, but not here."""
    if type(value) is tuple:
        return f"{len(value)} of them" if name == "peer" else ", ".join(map(str, value))
    return "" if value is None else str(value)


def _purpose(settings: Settings) -> str:
    """What the tunnel is, in a sentence."""
    where = []
    if settings.listen:
        where.append("waits on " + ", ".join(map(str, settings.listen)))
    if settings.connect:
        where.append("calls " + ", ".join(map(str, settings.connect)))
    carries = {"tun": "IP packets", "tap": "Ethernet frames"}.get(str(settings.mode), "what its device takes")
    words = f"carries {carries}, {' and '.join(where)}"
    if settings.negotiation == "symmetric":
        words += "; both ends must be set alike"
    elif settings.negotiation == "server" and settings.connect:
        words += "; takes address and routes from there, in whose file they are (pushed)"
    elif settings.negotiation == "server":
        pools = ", ".join(map(str, settings.pool_network)) or "no pool"
        words += f"; tells its clients what to use ({pools})"
    return words
