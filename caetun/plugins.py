"""Modules of other packages, which they name by entry points (docs/modules.md)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def added(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group, by name."""
    # Imported here: it takes a while, and most tunnels need none.
    from importlib.metadata import entry_points

    return {found.name: found for found in entry_points(group=group)}


def load(entry: EntryPoint) -> Any:
    """What an entry point stands for. Raises ImportError, whatever goes wrong in code that is not ours.

    Its `name` is that of a module that is missing, else None.
    """
    try:
        return entry.load()
    except ModuleNotFoundError as error:
        raise ImportError(str(error), name=error.name) from error
    except Exception as error:
        raise ImportError(f"{type(error).__name__}: {error}") from error


def built_in(path: str) -> Any:
    """What `module:object` stands for. Raises ImportError."""
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)
