"""A configuration file in the manner of WireGuard: sections, `Key = value`, lists with commas (docs/conf.md).

    [Interface]                              [Peer]
    Name = tun0                              Name = hub
    Address = 10.8.0.2/24                    Endpoint = hub.example:4500
    SecretFile = caetun.key                  AllowedIPs = 10.8.0.0/24

It becomes the same values as a TOML file has, each read by the option it stands for. Secrets in it stay in it: settings
hold the file's name, and `keyfiles` reads them (`inline_key`). Every key is mapped, or refused with what to do instead.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from caetun.agreement import Network
from caetun.configfile import read_text
from caetun.errors import ConfigurationError
from caetun.ports import parse_words

if TYPE_CHECKING:
    from caetun.options import Option

# chosen by us
SUFFIX: Final = ".conf"
"""By which such a file is told from TOML."""
_INLINE: Final = re.compile("[A-Za-z0-9+/]{43}=")
"""A key, not the name of a file: Base64 of 32 bytes."""
_LIKE_A_KEY: Final = re.compile("[A-Za-z0-9+/=]{30,}")
"""Too much like a key to be repeated in a message."""
_SECTIONS: Final = ("Interface", "Peer")
_COMMAND: Final = "CaeTun runs no commands: for NAT use --masquerade, for others ExecStartPost= of a systemd unit"
_REFUSED: Final = {
    **dict.fromkeys(("PreUp", "PostUp", "PreDown", "PostDown"), _COMMAND),
    "SaveConfig": "CaeTun never writes its configuration: leave it away",
    "FwMark": "there is no such mark in CaeTun: leave it away, and route by addresses",
    "Table": "routes for AllowedIPs go into the main table: leave it away, or write Table = off to set none",
}
_INTERFACE: Final = ("Name", "Address", "ListenPort", "PrivateKey", "SecretFile", "MTU", "DNS", "Mode", "Compression")
_PEER: Final = ("Name", "PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive")
KEYS: Final = {"Interface": (*_INTERFACE, *_REFUSED), "Peer": _PEER}


class Entry(NamedTuple):
    """One line."""

    line: int
    key: str
    """As `KEYS` spells it."""
    value: str


class Section(NamedTuple):
    """A heading and what is below it."""

    name: str
    entries: list[Entry]

    def find(self, key: str) -> Entry | None:
        """The last entry of a key, as WireGuard takes it."""
        return next((entry for entry in reversed(self.entries) if entry.key == key), None)

    def list(self, key: str) -> list[tuple[Entry, str]]:
        """What all entries of a key list, with commas or one a line."""
        return [
            (entry, word.strip())
            for entry in self.entries
            if entry.key == key
            for word in entry.value.split(",")
            if word.strip()
        ]


def read_conf(path: Path, options: Mapping[str, Option]) -> dict[str, Any]:
    """Values by field name of the settings; paths are relative to the file's folder. Raises ConfigurationError."""
    return _Reading(path, options).values()


def inline_key(path: Path, key: str) -> str | None:
    """The text of `PrivateKey` or `PresharedKey` in such a file. Raises ConfigurationError."""
    for section in _sections(path):
        entry = section.find(key)
        if entry is not None:
            return entry.value
    return None


class _Reading:
    """One file, on its way to values."""

    def __init__(self, path: Path, options: Mapping[str, Option]) -> None:
        self._path = path
        self._options = options
        self._values: dict[str, Any] = {}

    def values(self) -> dict[str, Any]:
        sections = _sections(self._path)
        for section in sections:
            for entry in section.entries:
                if entry.key in _REFUSED and (entry.key, entry.value.lower()) != ("Table", "off"):
                    raise self._wrong(entry, _REFUSED[entry.key])
        interfaces = [section for section in sections if section.name == "Interface"]
        if len(interfaces) != 1:
            raise ConfigurationError(f"{self._path}: has {len(interfaces)} sections [Interface]: give one")
        self._interface(interfaces[0])
        peers = [section for section in sections if section.name == "Peer"]
        self._peers(peers)
        if interfaces[0].find("Table") is None:
            self._lead(peers)
        return self._values

    def _interface(self, section: Section) -> None:
        for key, name in (("Name", "dev"), ("MTU", "mtu"), ("Mode", "mode"), ("Compression", "compress")):
            entry = section.find(key)
            if entry is not None:
                self._take(name, entry, entry.value)
        port = section.find("ListenPort")
        if port is not None:
            self._take("listen", port, [f":{port.value}"])
        addresses = section.list("Address")
        if addresses:
            self._take("address", addresses[0][0], [_with_prefix(word) for _, word in addresses])
        self._dns(section)
        self._file(section, "PrivateKey", "key")
        self._file(section, "SecretFile", "secret_file")

    def _dns(self, section: Section) -> None:
        """Servers, and (as wg-quick has it) domains between them."""
        words = section.list("DNS")
        servers = [word for _, word in words if _is_address(word)]
        domains = [word for _, word in words if not _is_address(word)]
        for name, found in (("dns", servers), ("dns_domain", domains)):
            if found:
                self._take(name, words[0][0], found)

    def _file(self, section: Section, key: str, name: str) -> None:
        """A key in this file, or the name of another file that holds it."""
        entry = section.find(key)
        if entry is None:
            return
        if not _INLINE.fullmatch(entry.value):
            if _LIKE_A_KEY.fullmatch(entry.value):
                raise self._wrong(entry, "is no key: give 32 bytes in Base64 (caetun genkey), or the name of a file")
            self._take(name, entry, entry.value)
        elif key == "SecretFile":
            raise self._wrong(entry, "holds a key, not the name of a file: write the key to a file and name that")
        else:
            self._values[name] = self._path

    def _peers(self, peers: list[Section]) -> None:
        if not peers:
            raise ConfigurationError(f"{self._path}: has no section [Peer]: say who the far end is")
        texts: list[str] = []
        for section in peers:
            public = section.find("PublicKey")
            if public is None and (len(peers) > 1 or "secret_file" not in self._values):
                where = section.entries[0] if section.entries else Entry(0, "Peer", "")
                raise self._wrong(where, "this [Peer] has no PublicKey: give one, or (with one peer) SecretFile above")
            if public is None:
                self._allow(section)
            else:
                texts.append(self._peer(section, public))
                self._take("peer", public, texts)
            self._file(section, "PresharedKey", "peer_psk_file")
        called = [entry for section in peers if (entry := section.find("Endpoint")) is not None]
        if called:
            self._take("connect", called[0], [entry.value for entry in called])
        self._keepalive(peers)

    def _peer(self, section: Section, public: Entry) -> str:
        """As `--peer` takes it."""
        words = [public.value]
        name = section.find("Name")
        for entry in (public, name):
            if entry is not None and "," in entry.value:
                raise self._wrong(entry, "has a comma: give one")
        if name is not None:
            words.append(self._word(name, f"name={name.value}"))
        # WireGuard, too, overlooks bits behind the prefix.
        allowed = [(entry, str(self._network(entry, word))) for entry, word in section.list("AllowedIPs")]
        if allowed:
            networks = "+".join(network for _, network in allowed)
            words.append(self._word(allowed[0][0], f"allowed={networks}"))
        return ",".join(words)

    def _word(self, entry: Entry, word: str) -> str:
        """A word as of `--peer`, if it can be one."""
        try:
            parse_words([word])
        except ValueError as error:
            raise self._wrong(entry, str(error)) from None
        return word

    def _keepalive(self, peers: list[Section]) -> None:
        found = [entry for section in peers if (entry := section.find("PersistentKeepalive")) is not None]
        told = {entry.value.lower() for entry in found} - {"off", "0"}
        if len(told) > 1:
            raise self._wrong(
                found[-1], "differs from another peer's: CaeTun has one interval for all, give all the same"
            )
        if told:
            self._take("keepalive", found[0], told.pop())

    def _lead(self, peers: list[Section]) -> None:
        """Routes to AllowedIPs, as wg-quick sets them, but for those that an address of the device brings with it.

        That of everything is the gateway's business, which leaves out the way to the far end itself.
        """
        near = [address.network for address in self._values.get("address", ())]
        far: dict[Network, Entry] = {}
        for section in peers:
            for entry, word in section.list("AllowedIPs"):
                network = self._network(entry, word)
                covered = any(each.version == network.version and network.subnet_of(each) for each in near)
                if not network.prefixlen and section.find("Endpoint") is not None:
                    self._values["gateway"] = True
                elif network.prefixlen and not covered:
                    far.setdefault(network, entry)
        if far:
            self._take("route", next(iter(far.values())), [str(network) for network in far])

    def _allow(self, section: Section) -> None:
        """AllowedIPs of the one far end that shares our secret: a filter does what a router does among several."""
        words = section.list("AllowedIPs")
        if not words:
            return
        entry = words[0][0]
        if "mode" in self._values and str(self._values["mode"]) != "tun":
            raise self._wrong(entry, "is about IP addresses: leave it away, or write Mode = tun")
        networks = [self._network(entry, word) for entry, word in words]
        rules: list[str] = []
        for version, word in ((4, "ip"), (6, "ip6")):
            some = [network for network in networks if network.version == version]
            if any(not network.prefixlen for network in some):
                continue
            for direction, end in (("in", "from"), ("out", "to")):
                rules += [f"{direction} accept {end} {network}" for network in some]
                rules.append(f"{direction} drop {word}")
        if rules:
            self._take("mangle", entry, rules)

    def _network(self, entry: Entry, word: str) -> Network:
        try:
            return ipaddress.ip_network(word, strict=False)
        except ValueError:
            raise self._wrong(entry, f"{word!r} is no address or prefix: write for example 10.8.0.0/24") from None

    def _take(self, name: str, entry: Entry, raw: object) -> None:
        """Read a value as its option does."""
        try:
            value = self._options[name].read(raw)
        except ValueError as error:
            raise self._wrong(entry, str(error)) from None
        self._values[name] = self._path.parent / value if isinstance(value, Path) else value

    def _wrong(self, entry: Entry, why: str) -> ConfigurationError:
        return ConfigurationError(f"{self._path}: line {entry.line}: {entry.key}: {why}")


def _with_prefix(word: str) -> str:
    """WireGuard takes an address alone for one of a network of its own."""
    if "/" in word or not _is_address(word):
        return word
    return f"{word}/{ipaddress.ip_address(word).max_prefixlen}"


def _is_address(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


def _sections(path: Path) -> list[Section]:
    """What the file says, section by section."""
    sections: list[Section] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        content = line.partition("#")[0].strip()
        heading = re.fullmatch(r"\[\s*(\w*)\s*\]", content)
        if heading:
            name = _spelled(heading[1], _SECTIONS)
            if name is None:
                raise ConfigurationError(f"{path}: line {number}: [{heading[1]}]: write [Interface] or [Peer]")
            sections.append(Section(name, []))
        elif content:
            if not sections:
                raise ConfigurationError(f"{path}: line {number}: stands in no section: write [Interface] above it")
            sections[-1].entries.append(_entry(path, number, content, sections[-1].name))
    return sections


def _entry(path: Path, number: int, content: str, section: str) -> Entry:
    key, separator, value = (part.strip() for part in content.partition("="))
    if not separator or not value:
        raise ConfigurationError(f"{path}: line {number}: {key}: has no value: write {key} = VALUE, or leave it away")
    spelled = _spelled(key, KEYS[section])
    if spelled is None:
        near = difflib.get_close_matches(key.lower(), [known.lower() for known in KEYS[section]], n=1)
        found = _spelled(near[0], KEYS[section]) if near else None
        advice = f"did you mean {found}?" if found else f"known are {', '.join(KEYS[section])}"
        raise ConfigurationError(f"{path}: line {number}: {key}: no such key in [{section}]: {advice}")
    return Entry(number, spelled, value)


def _spelled(word: str, known: Iterable[str]) -> str | None:
    """WireGuard does not care for capitals."""
    return next((each for each in known if each.lower() == word.lower()), None)
