"""What is said about a port of the switch, as people write it: words and `word=value`, separated by commas.

    KEY,name=attic,access=7,mac-limit=100,isolated
    KEY,name=office,trunk=7+8+100-110,native=3,storm.broadcast=100/400

The first part of a peer is its key; the device has its own words with `--port`. Of a peer of a router (`--mode tun`) it
is said which addresses are its own:

    KEY,name=attic,allowed=10.88.0.2+10.1.0.0/24+fd88::2+fd01::/64
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from caetun.l2.bridge import PortSettings
    from caetun.l2.storm import Rate

# fixed by the specification
_MAX_VLAN: Final = 4094

# chosen by us
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_RATE: Final = re.compile(r"([0-9]{1,7})(?:/([0-9]{1,7}))?")
LOCAL: Final = 0
"""The number of the device's port, as in `l2/switchboard.py`."""
LOCAL_NAME: Final = "local"
_MAX_MACS: Final = 16_384


class PortWords(NamedTuple):
    """What was said about one port; checked, and made into `PortSettings` when there is a switch."""

    name: str = ""
    words: tuple[tuple[str, str], ...] = ()
    """(word, value) in order, name and networks left out; a word without a value has ""."""
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Prefixes behind the port: what a router sends there, and takes from there."""

    def __str__(self) -> str:
        """As it was written, in order."""
        parts = [f"name={self.name}"] if self.name else []
        parts += ["allowed=" + "+".join(map(str, self.networks))] if self.networks else []
        return ",".join([*parts, *(f"{word}={value}" if value else word for word, value in self.words)])

    def settings(self, name: str) -> PortSettings:
        """For the switch; `name` is taken if none was given. Raises ValueError (why, what to do)."""
        return _settings(self.name or name, self.words)


class PeerRef(NamedTuple):
    """A far end: its public key, or the name in its certificate, and what is said about its port."""

    key: bytes
    """32 bytes: the public key, or what stands for the name."""
    port: PortWords = PortWords()
    certificate_name: str = ""
    """With --security tls."""


def parse_words(parts: Iterable[str]) -> PortWords:
    """Read what was said about a port. Raises ValueError (why, what to do)."""
    name = ""
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    words: dict[str, str] = {}
    for part in parts:
        word, separator, value = part.strip().partition("=")
        if word in words or (word == "name" and name) or (word == "allowed" and networks):
            raise ValueError(f"{word!r} is said twice of one port: leave one away")
        if word == "name":
            if not _NAME.fullmatch(value):
                raise ValueError(f"{value!r} is not a name: use 1 to 32 letters, digits, '.', '-' and '_'")
            name = value
            continue
        if word == "allowed":
            networks = parse_networks(value)
            continue
        if bool(separator) != (word not in _SWITCHES):
            what = "takes no value" if separator else "wants a value"
            raise ValueError(f"{part!r}: {word!r} {what} (or is not known): {_KNOWN}")
        words[word] = value
    found = PortWords(name, tuple(words.items()), networks)
    if found.words:
        found.settings("port")
    return found


def parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """`10.88.0.2+10.1.0.0/24`; an address alone is one host's. Raises ValueError (why, what to do)."""
    networks: list[IPv4Network | IPv6Network] = []
    for part in text.split("+"):
        try:
            network = ip_network(part)
        except ValueError:
            raise ValueError(_no_network(part)) from None
        if network in networks:
            raise ValueError(f"{part!r} is given twice: leave one away")
        networks.append(network)
    return tuple(networks)


def _no_network(text: str) -> str:
    try:
        return f"{text!r} has bits set behind its prefix: write {ip_network(text, strict=False)}"
    except ValueError:
        return f"{text!r} is no address or prefix: write for example 10.1.0.0/24 or fd01::/64, several with + between"


def _settings(name: str, words: Iterable[tuple[str, str]]) -> PortSettings:
    # Imported here: a tunnel between two hosts has no switch.
    from caetun.l2.bridge import BpduPolicy, PortSettings
    from caetun.l2.storm import DEFAULTS, Storm
    from caetun.l2.vlan import PortVlans

    given: dict[str, Any] = {}
    vlans: dict[str, Any] = {}
    storm: dict[Storm, Rate] = dict(DEFAULTS)
    for word, value in words:
        if word.startswith("storm."):
            _storm(storm, word, value)
        elif word in ("access", "native"):
            vlans[word] = _vlan(value)
        elif word == "trunk":
            vlans[word] = None if value == "all" else frozenset(_ranges(value))
        elif word == "bpdu":
            if value not in tuple(BpduPolicy):
                raise ValueError(f"{value!r} is no policy for BPDUs: give one of {', '.join(BpduPolicy)}")
            given[word] = BpduPolicy(value)
        elif word == "mac-limit":
            given["mac_limit"] = _number(value, 1, _MAX_MACS)
        elif word in _SWITCHES:
            given[word.replace("-", "_")] = True
        else:
            raise ValueError(f"{word!r} is not known: {_KNOWN}")
    if "access" in vlans and len(vlans) > 1:
        raise ValueError("'access' goes with neither 'trunk' nor 'native': a port of one VLAN has no tags")
    if vlans:
        native = vlans.get("access", vlans.get("native"))
        given["vlans"] = PortVlans(native=native, trunk=vlans.get("trunk", frozenset()))
    known = {each.name for each in dataclasses.fields(PortSettings)}
    return PortSettings(name, storm=storm, **{word: value for word, value in given.items() if word in known})


_SWITCHES: Final = frozenset(("isolated", "mesh", "fast-leave", "router"))
"""Words without a value; `fast-leave` and `router` concern multicast, and are looked up by `PortWords.words`."""
_KNOWN: Final = (
    "known are name=, allowed=, access=, trunk=, native=, mac-limit=, bpdu=, storm.CLASS=, isolated, mesh, fast-leave, "
    "router"
)


def _storm(storm: dict[Any, Any], word: str, value: str) -> None:
    from caetun.l2.storm import Rate, Storm

    name = word.removeprefix("storm.")
    if name not in tuple(Storm):
        raise ValueError(f"{name!r} is no class of storms: give one of {', '.join(Storm)}")
    if value == "off":
        storm.pop(Storm(name), None)
        return
    found = _RATE.fullmatch(value)
    if not found:
        raise ValueError(f"{value!r} is not a rate: write frames a second, RATE or RATE/BURST, or off")
    storm[Storm(name)] = Rate(float(found[1]), float(found[2] or 2 * int(found[1])))


def _vlan(text: str) -> int:
    return _number(text, 1, _MAX_VLAN)


def _ranges(text: str) -> Iterable[int]:
    """`7+8+100-110`."""
    for part in text.split("+"):
        low, separator, high = part.partition("-")
        first = _vlan(low)
        last = _vlan(high) if separator else first
        if last < first:
            raise ValueError(f"{part!r} ends before it begins: write the lower VLAN first")
        yield from range(first, last + 1)


def _number(text: str, low: int, high: int) -> int:
    if not re.fullmatch("[0-9]{1,6}", text) or not low <= int(text) <= high:
        raise ValueError(f"{text!r} is not a number from {low} to {high}")
    return int(text)
