"""What is said about a VLAN, as people write it: its number and words, or a table in TOML.

--vlan 7,querier=10.7.0.1              [[vlan]]
--vlan 8,snooping=off                  id = 8
                                       snooping = false
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from caetun.words import OFF, Word, address, flatten, nearest, split, vlan

# chosen by us
_ON: Final = "on"
_KNOWN: Final = "known are snooping=on or off, querier=on, off or its addresses"


class VlanRef(NamedTuple):
    """A VLAN, and where its multicast differs from the others'."""

    vlan: int
    snooping: bool | None = None
    """None: as everywhere."""
    querier: bool | None = None
    addresses: tuple[bytes, ...] = ()
    """From which to ask: at most one of IPv4, one of IPv6."""


def parse_vlan(text: str) -> VlanRef:
    """Read a VLAN in words. Raises ValueError (why, what to do)."""
    number, *words = text.split(",")
    return _checked(number, split(words))


def parse_vlan_table(table: Mapping[str, Any]) -> VlanRef:
    """Read a VLAN of a TOML table. Raises ValueError (why, what to do)."""
    words = list(flatten(table))
    found = [word.value for word in words if word.name == "id"]
    if len(found) != 1:
        raise ValueError("has no id: write id = 7 in each [[vlan]]")
    return _checked(found[0], [word for word in words if word.name != "id"])


def _checked(number: str, words: Iterable[Word]) -> VlanRef:
    said: dict[str, str] = {}
    for word, value in words:
        if word not in ("snooping", "querier"):
            raise ValueError(f"{word!r} is not known: {nearest(word, ('id', 'snooping', 'querier'))}{_KNOWN}")
        if word in said:
            raise ValueError(f"{word!r} is said twice of one VLAN: leave one away")
        said[word] = value or _ON
    snooping, querier = said.get("snooping"), said.get("querier")
    if snooping not in (None, _ON, OFF):
        raise ValueError(f"{snooping!r} is neither on nor off: {_KNOWN}")
    if snooping == OFF and querier not in (None, OFF):
        raise ValueError("'querier' goes with snooping only: nobody uses the answers")
    addresses = () if querier in (None, _ON, OFF) else querier_addresses(map(address, str(querier).split("+")))
    return VlanRef(
        vlan(number),
        None if snooping is None else snooping == _ON,
        None if querier is None else querier != OFF,
        addresses,
    )


def querier_addresses(given: Iterable[bytes]) -> tuple[bytes, ...]:
    """Addresses to ask from: at most one of each protocol, IPv6 link-local. Raises ValueError."""
    found = tuple(sorted(given, key=len))
    if len({len(each) for each in found}) < len(found):
        raise ValueError("two addresses of one protocol are given: give one IPv4 and one IPv6 address at most")
    for each in found:
        # RFC 9777, section 5.1.14: hosts do not take in a query from any other
        if len(each) == 16 and (each[0] != 0xFE or each[1] & 0xC0 != 0x80):
            raise ValueError("the IPv6 address of a querier is link-local: give one of fe80::/10")
    return found
