"""A configuration file in TOML: its keys, tables taken apart, and on which line each of them is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from caetun.errors import ConfigurationError

# chosen by us
_FILE_LIMIT: Final = 1 << 20
"""Bytes of a configuration file: more is surely the wrong file."""


class ConfigFile:
    """A file that has been read."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigurationError."""
        import tomllib

        self.path = path
        self._text = read_text(path)
        try:
            self._top = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(
                f"{path}: is not TOML: {error}: see docs/configuration.md for an example"
            ) from None

    def values(self, known: Iterable[str]) -> dict[str, Any]:
        """What it holds, by key; `[pool] network = ...` as `pool-network`, if a known key begins with `pool-`."""
        return _flat(self._top, known)

    def line(self, key: str, why: str = "") -> str:
        """Where a key is, for an error message: "line 7: "; empty if it is written in an unusual way.

        `why`: what is wrong with it. In a table, that says which line it is about: "table 2: 'nmae' is not known".
        """
        if why and (number := self._line_in_table(key, why)):
            return f"line {number}: "
        table, _, last = key.partition("-")
        within = ""
        for number, line in enumerate(self._text.splitlines(), 1):
            heading = re.match(r"\s*\[+\s*([^\]]*?)\s*\]", line)
            if heading:
                within = heading[1]
            wanted = last if within == table else key
            if re.match(rf"\s*{re.escape(wanted)}\s*=", line) or within == key:
                return f"line {number}: "
        return ""

    def _line_in_table(self, key: str, why: str) -> int:
        """Within the table that a mistake is in, the line with what is quoted first; else the table's heading, or 0."""
        numbered = re.match(r"table (\d+): ", why)
        wanted = int(numbered[1]) if numbered else 1
        quoted = re.search(r"'([^']+)'", why)
        count = heading_at = 0
        within = False
        for number, line in enumerate(self._text.splitlines(), 1):
            heading = re.match(r"\s*\[+\s*([^\]]*?)\s*\]", line)
            if heading:
                within = within and heading[1].startswith(f"{key}.")
                if heading[1] == key:
                    count += 1
                    within = count == wanted
                    heading_at = number if within else heading_at
            elif within and quoted and _says(line, quoted[1]):
                return number
        return heading_at


def _says(line: str, word: str) -> bool:
    """Whether a line sets a word, or sets one to it."""
    name, separator, value = line.partition("=")
    bare = name.strip().strip('"')
    return bool(separator) and (
        word in (bare, bare.rpartition(".")[2]) or bool(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", value))
    )


def read_text(path: Path) -> str:
    """A configuration file's text. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_LIMIT + 1)
        if len(content) > _FILE_LIMIT:
            raise ConfigurationError(f"{path}: is larger than {_FILE_LIMIT} bytes: is it the right file?")
        return content.decode()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}: check --config") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not text in UTF-8: is it the right file?") from None


def _flat(top: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Tables that are the beginning of options' names, taken apart into these."""
    flat: dict[str, Any] = {}
    names = tuple(known)
    for key, raw in top.items():
        if isinstance(raw, dict) and key not in names and any(name.startswith(f"{key}-") for name in names):
            flat.update({f"{key}-{inner}": value for inner, value in raw.items()})
        else:
            flat[key] = raw
    return flat
