"""What is said about a port of the switch, as people write it: words and `word=value`, or a table in TOML.

    KEY,name=attic,access=7,mac-limit=100,isolated
    KEY,name=office,trunk=7+8+100-110,native=3,storm.broadcast=100/400
    KEY,name=guest,role=host,source=dhcp,address-limit=8

The first part of a peer is its key; the device has its own words with `--port`, and `--port-defaults` holds for all
peers. docs/switch.md explains each word.

Of a peer of a router (`--mode tun`) it is said which addresses are its own:

    KEY,name=attic,allowed=10.88.0.2+10.1.0.0/24+fd88::2+fd01::/64
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from caetun.words import (
    OFF,
    Word,
    address,
    at_vlan,
    flatten,
    group,
    is_mac,
    mac,
    nearest,
    number,
    several,
    split,
    vlan,
    vlans,
)

if TYPE_CHECKING:
    from caetun.l2.bridge import PortSettings
    from caetun.l2.policy import Allowed, GuardSettings
    from caetun.l2.storm import Rate

# chosen by us
_NAME: Final = r"[A-Za-z0-9_.-]{1,32}"
_RATE: Final = r"([0-9]{1,7})(?:/([0-9]{1,7}))?"
LOCAL: Final = 0
"""The number of the device's port, as in `l2/switchboard.py`."""
LOCAL_NAME: Final = "local"
_MAX_MACS: Final = 16_384
_MAX_ADDRESSES: Final = 4096

ROLES: Final[Mapping[str, tuple[bool, bool]]] = {
    "bridge": (True, True),
    "host": (False, False),
    "server": (True, False),
    "router": (True, True),
}
"""What is at a port -> whether DHCP servers, and whether IPv6 routers, may be there."""


class PortWords(NamedTuple):
    """What was said about one port; checked, and made into `PortSettings` when there is a switch."""

    name: str = ""
    words: tuple[Word, ...] = ()
    """In order, name and networks left out."""
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Prefixes behind the port: what a router sends there, and takes from there."""

    def __str__(self) -> str:
        """As it was written, in order."""
        first = [Word("name", self.name)] if self.name else []
        first += [Word("allowed", "+".join(map(str, self.networks)))] if self.networks else []
        return ",".join(map(str, [*first, *self.words]))

    def settings(self, name: str) -> PortSettings:
        """For the switch; `name` is taken if none was given. Raises ValueError (why, what to do)."""
        return _settings(self.name or name, self.words)

    def over(self, defaults: PortWords) -> PortWords:
        """These words, and of `defaults` those that say nothing about the same."""
        said = {_topic(word) for word in self.words}
        return self._replace(words=(*(word for word in defaults.words if _topic(word) not in said), *self.words))


class PeerRef(NamedTuple):
    """A far end: its public key, or the name in its certificate, and what is said about its port."""

    key: bytes
    """32 bytes: the public key, or what stands for the name."""
    port: PortWords = PortWords()
    certificate_name: str = ""
    """With --security tls."""


def parse_words(parts: Iterable[str]) -> PortWords:
    """Read what was said about a port in words. Raises ValueError (why, what to do)."""
    return _checked(split(parts))


def parse_table(table: Mapping[str, Any]) -> PortWords:
    """Read what was said about a port in a table of TOML. Raises ValueError (why, what to do)."""
    return _checked(flatten(table))


def nameless(words: PortWords) -> PortWords:
    """What is said of all ports has neither name nor networks. Raises ValueError."""
    if words.name or words.networks:
        raise ValueError(f"{'name' if words.name else 'allowed'!r} is said of all ports: give each its own")
    return words


def _checked(said: Iterable[Word]) -> PortWords:
    name = ""
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    words: dict[str, Word] = {}
    for each in said:
        word, value = each.name.removeprefix("vlan.") if each.name in _VLAN_ALIASES else each.name, each.value
        if word in words or (word == "name" and name) or (word == "allowed" and networks):
            raise ValueError(f"{word!r} is said twice of one port: leave one away")
        if word == "name":
            if not re.fullmatch(_NAME, value):
                raise ValueError(f"{value!r} is not a name: use 1 to 32 letters, digits, '.', '-' and '_'")
            name = value
            continue
        if word == "allowed":
            networks = parse_networks(value)
            continue
        if word not in _SWITCHES and word not in _READERS and not word.startswith("storm."):
            raise ValueError(f"{word!r} is not known: {nearest(word, _NAMES)}{_KNOWN}")
        if bool(value) and word in _SWITCHES and value != OFF:
            raise ValueError(
                f"{word!r} takes no value, not {value!r}: write it alone, {word}=off, or in a table true, false"
            )
        if not value and word not in _SWITCHES:
            raise ValueError(f"'{each}': {word!r} wants a value")
        words[word] = Word(word, value)
    found = PortWords(name, tuple(words.values()), networks)
    if found.words:
        found.settings("port")
    return found


def _topic(word: Word) -> str:
    """What a word is about: a port has one kind of VLANs, so words about them replace each other."""
    return "vlan" if f"vlan.{word.name}" in _VLAN_ALIASES else word.name


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


def _settings(name: str, words: Iterable[Word]) -> PortSettings:
    # Imported here: a tunnel between two hosts has no switch.
    from caetun.l2.bridge import PortSettings
    from caetun.l2.storm import DEFAULTS, Storm

    given: dict[str, Any] = {}
    storm: dict[Storm, Rate] = dict(DEFAULTS)
    for word, value in words:
        if word.startswith("storm."):
            _storm(storm, word, value)
        elif word in _SWITCHES:
            given[word] = value != OFF
        else:
            given[word] = _READERS[word](value)
    settings = {word.replace("-", "_"): given[word] for word in _PLAIN if word in given}
    for word, setting in (("router", "multicast_router"), ("static-mac", "macs"), ("static-group", "groups")):
        if word in given:
            settings[setting] = given[word]
    return PortSettings(name, storm=storm, vlans=_port_vlans(given), guard=_guard(given), **settings)


def _port_vlans(given: Mapping[str, Any]) -> Any:
    from caetun.l2.vlan import PortVlans

    said = {word: given[word] for word in ("access", "trunk", "native") if word in given}
    if not said:
        return None
    if "access" in said and len(said) > 1:
        raise ValueError("'access' goes with neither 'trunk' nor 'native': a port of one VLAN has no tags")
    return PortVlans(native=said.get("access", said.get("native")), trunk=said.get("trunk", frozenset()))


def _guard(given: Mapping[str, Any]) -> GuardSettings:
    """Who may be at a port. Senders that are named are all there are, unless something else is said."""
    from caetun.l2.policy import LIMIT, GuardSettings, Source

    source = given.get("source", Source.STATIC if "bind" in given else Source.ANY)
    if source is Source.STATIC and "bind" not in given:
        raise ValueError("'source=static' lets nobody send: name who may with bind=MAC@ADDRESS")
    if source is Source.ANY and "bind" in given:
        raise ValueError("'bind' does nothing with source=any: give source=static, dhcp or learn")
    dhcp_server, router = ROLES[given.get("role", "bridge")]
    return GuardSettings(source, given.get("bind", ()), given.get("address-limit", LIMIT), dhcp_server, router)


def _storm(storm: dict[Any, Any], word: str, value: str) -> None:
    from caetun.l2.storm import Rate, Storm

    name = word.removeprefix("storm.")
    if name not in tuple(Storm):
        raise ValueError(f"{name!r} is no class of storms: give one of {', '.join(Storm)}")
    if value == OFF:
        storm.pop(Storm(name), None)
        return
    found = re.fullmatch(_RATE, value)
    if not found:
        raise ValueError(f"{value!r} is not a rate: write frames a second, RATE or RATE/BURST, or off")
    storm[Storm(name)] = Rate(float(found[1]), float(found[2] or 2 * int(found[1])))


# readers of single values


def _trunk(text: str) -> frozenset[int] | None:
    return None if text == "all" else vlans(text)


def _bpdu(text: str) -> object:
    from caetun.l2.port import BpduPolicy

    if text not in tuple(BpduPolicy):
        raise ValueError(f"{text!r} is no policy for BPDUs: give one of {', '.join(BpduPolicy)}")
    return BpduPolicy(text)


def _source(text: str) -> object:
    from caetun.l2.policy import Source

    if text not in tuple(Source):
        raise ValueError(f"{text!r} is no source guard: give one of {', '.join(Source)}")
    return Source(text)


def _role(text: str) -> str:
    if text not in ROLES:
        raise ValueError(f"{text!r} is no role: {nearest(text, ROLES)}give one of {', '.join(ROLES)}")
    return text


def _sender(text: str) -> Allowed:
    """`MAC`, `ADDRESS[/PREFIX]` or `MAC@ADDRESS[/PREFIX]`."""
    from caetun.l2.policy import Allowed

    if is_mac(text):
        return Allowed(mac(text))
    before, separator, where = text.rpartition("@")
    host, slash, length = where.partition("/")
    packed = address(host)
    prefix = number(length, 0, len(packed) * 8) if slash else None
    return Allowed(mac(before) if separator else None, packed, prefix)


_READERS: Final[Mapping[str, Callable[[str], object]]] = {
    "role": _role,
    "access": vlan,
    "trunk": _trunk,
    "native": vlan,
    "mac-limit": lambda text: number(text, 1, _MAX_MACS),
    "bpdu": _bpdu,
    "source": _source,
    "bind": several(_sender),
    "address-limit": lambda text: number(text, 1, _MAX_ADDRESSES),
    "static-mac": several(at_vlan(mac)),
    "static-group": several(at_vlan(group)),
}
"""Words with a value."""
_SWITCHES: Final = ("isolated", "mesh", "fast-leave", "router")
"""Words without a value."""
_PLAIN: Final = ("mac-limit", "bpdu", "isolated", "mesh", "fast-leave")
"""Words that are settings of a port as they stand."""
_VLAN_ALIASES: Final = frozenset(("vlan.access", "vlan.trunk", "vlan.native"))
_NAMES: Final = ("name", "allowed", "key", *_READERS, *_SWITCHES)
_KNOWN: Final = (
    f"known are name=, allowed=, {''.join(f'{word}=, ' for word in _READERS)}storm.CLASS=, {', '.join(_SWITCHES)}"
)
