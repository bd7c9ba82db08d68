"""Lets aioquic be imported without what it only verifies certificates with, and that takes long to import.

That is pyOpenSSL, service-identity and certifi, for `--tls-verify strict`: else `transports.tls` judges certificates.
So stand-ins are there while aioquic is imported, which import the real package when something of it is first asked for
(PEP 562). To be imported before aioquic.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Final

# fixed by aioquic.tls, as it imports them
_PACKAGES: Final = {"certifi": (), "service_identity": (), "OpenSSL": ("crypto",)}
"""Packages, and what is imported out of them."""


def _stand_in(name: str) -> ModuleType:
    """A module that has what the one of that name has, and imports it no sooner."""

    def late(attribute: str) -> object:
        if attribute.startswith("__"):  # what the import system asks every module for
            raise AttributeError(attribute)
        return getattr(import_module(name), attribute)

    module = ModuleType(name)
    answer: Callable[[str], object] = late
    module.__dict__["__getattr__"] = answer
    return module


def _import_aioquic() -> None:
    standing_in = [name for name in _PACKAGES if name not in sys.modules]
    for name in standing_in:
        module = sys.modules[name] = _stand_in(name)
        for part in _PACKAGES[name]:
            setattr(module, part, _stand_in(f"{name}.{part}"))
    try:
        import_module("aioquic.tls")
    finally:
        for name in standing_in:
            del sys.modules[name]


_import_aioquic()
