"""Which compression methods there are, by name: ours, and those of other packages by the entry point
`caetun.compression`.

A module is imported when its method is asked for: most tunnels compress nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

from caetun import plugins
from caetun.errors import ConfigurationError

if TYPE_CHECKING:
    from caetun.compression.base import Method

ENTRY_POINTS: Final = "caetun.compression"
BUILT_IN: Final = {
    "lz4": "caetun.compression.lz4:METHOD",
    "zstd": "caetun.compression.zstd:METHOD",
}
"""Name -> module and object."""
NONE: Final = "none"
_PACKAGES: Final = {"lz4": "lz4", "zstd": "zstandard"}
"""What else a method needs, and comes with `pip install caetun[compression]`."""
_NAME: Final = re.compile("[a-z0-9-]{1,16}")
MAX_METHODS: Final = 8
"""In one list: a hello has room for no more (docs/wire.md, 2.3)."""


def names() -> tuple[str, ...]:
    """Every method that this installation knows, our own first."""
    return (*BUILT_IN, *sorted(name for name in plugins.added(ENTRY_POINTS) if name not in BUILT_IN))


def parse_methods(text: str) -> tuple[str, ...]:
    """What `--compress` was given: names with commas, best first, or none. Raises ValueError (why, what to do)."""
    words = tuple(word.strip() for word in text.split(","))
    if words == (NONE,):
        return ()
    for word in words:
        if not _NAME.fullmatch(word) or (word not in BUILT_IN and word not in plugins.added(ENTRY_POINTS)):
            raise ValueError(f"{word!r} is no compression: give none, or some of {', '.join(names())}, with commas")
    if len(set(words)) < len(words) or len(words) > MAX_METHODS:
        raise ValueError(f"{text!r}: a method is named twice, or more than {MAX_METHODS} are: leave one away")
    return words


def find(name: str) -> Method:
    """The method of that name; raises ConfigurationError if it is unknown or cannot be loaded."""
    try:
        if name in BUILT_IN:
            return cast("Method", plugins.built_in(BUILT_IN[name]))
        added = plugins.added(ENTRY_POINTS)
        if name in added:
            return cast("Method", plugins.load(added[name]))
    except ImportError as error:
        package = _PACKAGES.get(name, error.name)
        if package is None:
            raise ConfigurationError(f"--compress: {name} cannot be loaded: {error}: ask whoever made it") from error
        raise ConfigurationError(
            f"--compress: {name} needs the package {package}, which is not installed: pip install {package}"
        ) from error
    raise ConfigurationError(f"--compress: there is no {name}: available: {', '.join(names())}")
