"""How settings of a port or a VLAN are written: words and `word=value` with commas, or a table of them in TOML.

    name=attic,vlan.trunk=7+8,isolated              [[peer]]
                                                    name = "attic"
                                                    vlan.trunk = [7, 8]
                                                    isolated = true

Both become the same pairs, so that what is checked and what is said about a mistake is the same. Readers of single
values raise ValueError with "why: what to do".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any, Final, NamedTuple, TypeVar

# fixed by the specification
MAX_VLAN: Final = 4094
_MAC: Final = r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}"

# chosen by us
OFF: Final = "off"
"""Takes back a word that was said of all ports."""
MAX_LIST: Final = 1024
"""Values in one list: what is longer was not meant for a person to read."""

_T = TypeVar("_T")


def nearest(text: str, known: Iterable[str]) -> str:
    """ "did you mean X? ", or "" if nothing known is near."""
    # Imported here: mistakes are rare.
    import difflib

    near = difflib.get_close_matches(text, list(known), n=1)
    return f"did you mean {near[0]}? " if near else ""


class Word(NamedTuple):
    """A word, and what was said of it."""

    name: str
    value: str = ""
    """"" if it stands alone."""

    def __str__(self) -> str:
        """As one writes it."""
        return f"{self.name}={self.value}" if self.value else self.name


def split(parts: Iterable[str]) -> Iterator[Word]:
    """The pairs of `word` and `word=value`. Raises ValueError."""
    for part in parts:
        name, separator, value = part.strip().partition("=")
        if separator and not value:
            raise ValueError(f"{part!r}: {name!r} wants a value behind '='")
        yield Word(name, value)


def flatten(table: Mapping[str, Any], before: str = "") -> Iterator[Word]:
    """The pairs of a TOML table: `vlan.access = 7` and `[peer.vlan]` are one. Raises ValueError."""
    for key, raw in table.items():
        name = before + key
        if isinstance(raw, dict):
            if before:
                raise ValueError(f"{name!r} is a table in a table: write it as word.word = value")
            yield from flatten(raw, f"{name}.")
        elif isinstance(raw, bool):
            yield Word(name, "" if raw else OFF)
        else:
            yield Word(name, "+".join(_text(name, each) for each in (raw if isinstance(raw, list) else [raw])))


def _text(name: str, raw: object) -> str:
    # bool is a subclass of int in Python
    if type(raw) is int or (isinstance(raw, str) and raw and "," not in raw):
        return str(raw)
    raise ValueError(f"{name!r} is not understood: give a number, text in quotes without commas, true, false or a list")


def several(read: Callable[[str], _T]) -> Callable[[str], tuple[_T, ...]]:
    """A reader of values with `+` between them."""

    def read_all(text: str) -> tuple[_T, ...]:
        items = text.split("+")
        if len(items) > MAX_LIST:
            raise ValueError(f"{len(items)} values are too many: give at most {MAX_LIST}")
        return tuple(read(item) for item in items)

    return read_all


def number(text: str, low: int, high: int) -> int:
    """A whole number within bounds."""
    if not re.fullmatch("[0-9]{1,6}", text) or not low <= int(text) <= high:
        raise ValueError(f"{text!r} is not a number from {low} to {high}")
    return int(text)


def vlan(text: str) -> int:
    """The number of a VLAN."""
    return number(text, 1, MAX_VLAN)


def vlans(text: str) -> frozenset[int]:
    """`7+8+100-110`."""
    found: set[int] = set()
    for part in text.split("+"):
        low, separator, high = part.partition("-")
        if not low or (separator and not high):
            raise ValueError(f"{part!r} is no range of VLANs: write for example 100-110")
        first = vlan(low)
        last = vlan(high) if separator else first
        if last < first:
            raise ValueError(f"{part!r} ends before it begins: write the lower VLAN first")
        found.update(range(first, last + 1))
    return frozenset(found)


def mac(text: str) -> bytes:
    """A MAC address that a host can have; 6 bytes."""
    if not re.fullmatch(_MAC, text):
        raise ValueError(f"{text!r} is not a MAC address: write it as 02:00:00:00:00:01")
    address = bytes.fromhex(re.sub("[:-]", "", text))
    if address[0] & 1 or not any(address):
        raise ValueError(f"{text!r} is a group's, or nobody's: give the MAC address of a host")
    return address


def is_mac(text: str) -> bool:
    """Whether a text looks like a MAC address."""
    return re.fullmatch(_MAC, text) is not None


def address(text: str) -> bytes:
    """A unicast IP address; 4 or 16 bytes."""
    try:
        found = ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address: write for example 10.0.0.5 or fd00::5") from None
    if found.is_multicast or found.is_unspecified or "%" in text:
        raise ValueError(f"{text!r} cannot be a host's address: give a unicast address without a zone")
    return found.packed


def group(text: str) -> bytes:
    """A multicast group that a switch may prune; 4 or 16 bytes."""
    try:
        found = ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a group: write for example 239.1.2.3 or ff0e::123") from None
    if not found.is_multicast or "%" in text or found.packed[:3] == b"\xe0\0\0":
        raise ValueError(f"{text!r} is no group that is kept back: give 224.0.1.0 to 239.255.255.255, or one of IPv6")
    return found.packed


def at_vlan(read: Callable[[str], _T]) -> Callable[[str], tuple[_T, int | None]]:
    """A reader of a value and where it holds: `VALUE` or `VALUE@VLAN`; None: in the VLAN of untagged frames."""

    def read_both(text: str) -> tuple[_T, int | None]:
        value, separator, where = text.partition("@")
        return read(value), vlan(where) if separator else None

    return read_both
