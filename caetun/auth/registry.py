"""Authentication modules by name: ours, and those of other packages (entry point group `caetun.auth`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from caetun import plugins
from caetun.auth.base import Method
from caetun.errors import ConfigurationError

if TYPE_CHECKING:
    from caetun.auth.password import Users
    from caetun.security.trust import Trust

BUILT_IN: Final = ("key", "certificate", "password", "totp", "command")
ENTRY_POINTS: Final = "caetun.auth"
"""Functions that take no argument and return a `Method`."""


class Means(NamedTuple):
    """What modules are made with."""

    users: Users | None
    trust: Trust | None
    command: Path | None
    certificates_shown: bool
    """Whether the handshake shows certificates."""


def make_chain(names: Sequence[str], means: Means) -> list[Method]:
    """The modules of these names, in order. Raises ConfigurationError."""
    return [_make(name, means, names) for name in names]


def _make(name: str, means: Means, names: Sequence[str]) -> Method:
    # Imported here: few hubs have all of them.
    match name:
        case "key":
            from caetun.auth.key import KnownKey

            return KnownKey()
        case "certificate":
            from caetun.auth.certificate import Certificate

            assert means.trust is not None  # the settings see to it
            return Certificate(means.trust, shown=means.certificates_shown)
        case "password":
            from caetun.auth.password import Password

            assert means.users is not None
            return Password(means.users)
        case "totp":
            from caetun.auth.totp import OneTimeCode

            assert means.users is not None
            return OneTimeCode(means.users.secret)
        case "command":
            from caetun.auth.base import PASSWORD, USER
            from caetun.auth.command import Command

            assert means.command is not None
            return Command(means.command, (USER, PASSWORD))
    return _plugin(name)


def _plugin(name: str) -> Method:
    found = plugins.added(ENTRY_POINTS)
    if name not in found:
        known = ", ".join([*BUILT_IN, *found])
        raise ConfigurationError(f"--auth: {name}: no such module: there are {known}")
    try:
        make: Callable[[], Method] = found[name].load()
        return make()
    except Exception as error:
        raise ConfigurationError(
            f"--auth: {name}: cannot be loaded: {type(error).__name__}: {error}: is its package installed whole?"
        ) from error
