"""What an option is: a name, a kind of value with its bounds, a default, and where it shows up.

`caetun/settings.py` declares them; flags, the configuration file and the reference in docs/ all come from there.
Parsers take text and raise ValueError with "why: what to do"; `Option.read` does the same for what TOML holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from caetun.endpoint import parse_endpoint, parse_remote, parse_transports
from caetun.errors import ConfigurationError
from caetun.ports import PeerRef, PortWords, nameless, parse_table, parse_words
from caetun.transports.registry import BUILT_IN
from caetun.types import Mode
from caetun.vlans import parse_vlan, parse_vlan_table, querier_addresses
from caetun.words import address, nearest

# Patterns are text, here and beside: `re` compiles one when it is first used, and a plain start uses few.

# fixed by the specification
_DEVICE_NAME: Final = r"[^\s/:\x00-\x1f\x7f]{1,15}"
"""What Linux takes as an interface name (net/core/dev.c, dev_valid_name): 15 bytes, no slash, colon or space. Control
characters it takes, too, but terminals act upon them."""
_FD: Final = r"fd:([0-9]{1,6})"
_KEY: Final = r"[A-Za-z0-9+/]{43}="
"""Base64 of 32 bytes."""

_DOMAIN: Final = r"(?=.{1,253}$)(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*"
"""Labels with dots between (RFC 1035, section 2.3.1), and the underscore that is found in practice."""

# chosen by us
_BY_NAME: Final = "cn:"
"""What a peer begins with that is known by the name in its certificate."""
_DURATION: Final = r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(s|m|h|)"
_SECONDS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

Interface: TypeAlias = IPv4Interface | IPv6Interface
"""An address and the length of its network's prefix."""


class DeviceRef(NamedTuple):
    """Which device: by name, by an open descriptor that was inherited, or (both None) the next free `caetunN`."""

    name: str | None = None
    fd: int | None = None

    def __str__(self) -> str:
        """As given to `--dev`."""
        return f"fd:{self.fd}" if self.fd is not None else self.name or ""


class BridgeRef(NamedTuple):
    """A Linux bridge that the device becomes a member of."""

    name: str
    create: bool = False
    """Whether to make it, and remove it in the end."""

    def __str__(self) -> str:
        """As given to `--bridge`."""
        return f"{self.name}:create" if self.create else self.name


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value: how it is called in help, what is allowed, how it is read."""

    metavar: str
    parse: Callable[[str], object]
    limits: str = ""
    """Bounds and unit in words, for help and the reference."""
    native: tuple[type, ...] = ()
    """Types besides strings that the value may have in TOML."""
    table: Callable[[dict[str, object]], object] | None = None
    """Reads a table of TOML; None: it may be none."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `name` and `default` are filled in from the field of `Settings` that declares it."""

    kind: Kind
    group: str
    help: str
    repeatable: bool = False
    reloadable: bool = False
    """Whether SIGHUP applies a changed value; any other takes effect at the next start."""
    hidden: bool = False
    """For experiments and tests: works, but is not in `--help`."""
    in_file: bool = True
    short: str = ""
    name: str = ""
    default: object = None

    @property
    def key(self) -> str:
        """Its name in the configuration file."""
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        """Its long flag."""
        return f"--{self.key}"

    @property
    def default_text(self) -> str:
        """Its default as one would write it; "" if there is none."""
        if self.kind is SWITCH:
            return str(self.default).lower()
        if isinstance(self.default, float):
            return f"{self.default:.15g}"
        if self.default in (None, (), ""):
            return ""
        return ",".join(map(str, self.default)) if type(self.default) is tuple else str(self.default)

    def read(self, raw: object) -> object:
        """The value for what a flag or TOML gave; a tuple if repeatable. Raises ValueError (why, what to do)."""
        if not self.repeatable:
            return self._read_one(raw)
        several = raw if isinstance(raw, list) else [raw]
        return tuple(self._read_item(item, number) for number, item in enumerate(several, 1))

    def _read_item(self, raw: object, number: int) -> object:
        """One of several; a table has no text of its own by which to find it, so it is told by its number."""
        try:
            return self._read_one(raw)
        except ValueError as error:
            raise ValueError(
                f"table {number}: {error}" if isinstance(raw, dict) and self.kind.table else error
            ) from None

    def _read_one(self, raw: object) -> object:
        # bool is a subclass of int in Python: without the exact type, `mtu = true` would be 1
        if self.kind is SWITCH:
            if type(raw) is bool:
                return raw
            raise ValueError("is a switch: give true or false, without quotes")
        if isinstance(raw, str):
            return self.kind.parse(raw)
        if isinstance(raw, dict) and self.kind.table is not None:
            return self.kind.table(raw)
        if type(raw) in self.kind.native:
            return self.kind.parse(str(raw))
        wanted = f"give {self.kind.limits or self.kind.metavar}{'' if self.kind.native else ' in quotes'}"
        raise ValueError(f"is {_toml_type(raw)}: {wanted}")

    def row(self) -> str:
        """Its line in the tables of docs/configuration.md."""
        flag = f"`--no-{self.key}`" if self.default is True else f"`{self.flag}`"
        short = f"`{self.short}`, " if self.short else ""
        default = f"`{self.default_text}`" if self.default_text else ""
        marks = [mark for mark, applies in (("repeatable", self.repeatable), ("reload", self.reloadable)) if applies]
        key = f"`{self.key}`" if self.in_file else ""
        cells = [short + flag, key, self.kind.limits or self.kind.metavar, default, ", ".join(marks), self.help]
        return f"| {' | '.join(cells)} |"


def integer(low: int, high: int, metavar: str, unit: str = "") -> Kind:
    """Whole numbers from `low` to `high`, of `unit`."""
    limits = f"{low}..{high} {unit}".strip()

    def parse(text: str) -> int:
        if not re.fullmatch("-?[0-9]{1,9}", text):
            raise ValueError(f"{text!r} is not a whole number: give {limits}")
        if not low <= int(text) <= high:
            raise ValueError(f"{text} is out of bounds: give {limits}")
        return int(text)

    return Kind(metavar, parse, limits, (int,))


def duration(low: int, high: int) -> Kind:
    """Seconds from `low` to `high`, as float; written 10, "10s", "2m" or "1h"."""
    limits = f"{low}..{high} s"

    def parse(text: str) -> float:
        found = re.fullmatch(_DURATION, text.strip())
        if not found:
            raise ValueError(f"{text!r} is not a duration: write 10, 10s or 2m, {limits}")
        seconds = float(found[1]) * _SECONDS[found[2]]
        if not low <= seconds <= high:
            raise ValueError(f"{text} is out of bounds: give {limits}")
        return seconds

    return Kind("TIME", parse, limits, (int, float))


def choice(*words: str) -> Kind:
    """One of some words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is not known: {nearest(text, words)}give one of {', '.join(words)}")
        return text

    return Kind("WORD", parse, ", ".join(words))


def _parse_mode(text: str) -> Mode:
    try:
        return Mode(text)
    except ValueError:
        raise ValueError(f"{text!r} is not known: give tun (IP packets) or tap (Ethernet frames)") from None


def _parse_device(text: str) -> DeviceRef:
    descriptor = re.fullmatch(_FD, text)
    if descriptor:
        return DeviceRef(fd=int(descriptor[1]))
    if not re.fullmatch(_DEVICE_NAME, text) or len(text.encode()) > 15 or text in (".", ".."):
        raise ValueError(
            f"{text!r} is not an interface name: use 1 to 15 characters without '/', ':' and spaces, or fd:N"
        )
    return DeviceRef(name=text)


def _parse_interface(text: str) -> Interface:
    """An address that a host can have; mistakes that the kernel would accept in silence are refused here."""
    if "/" not in text:
        raise ValueError(f"{text!r} has no prefix length: write for example {text}/{64 if ':' in text else 24}")
    try:
        interface = ip_interface(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an address with prefix length: write for example 10.0.0.1/24") from None
    network = interface.network
    if "%" in text or interface.ip.is_multicast or interface.ip.is_unspecified:
        raise ValueError(f"{text!r} cannot be a host's address: give a unicast address without a zone")
    edges = (network.network_address, network.broadcast_address if network.version == 4 else None)
    if network.num_addresses > 2 and interface.ip in edges:
        first = f"{network[1]}/{network.prefixlen}"
        raise ValueError(f"{text!r} stands for the whole network: give the host's own address, for example {first}")
    return interface


def _parse_address(text: str) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an address: write for example 10.0.0.1 or fd00::1, without a port") from None
    if "%" in text or address.is_multicast or address.is_unspecified:
        raise ValueError(f"{text!r} cannot be a host's address: give a unicast address without a zone")
    return address


def _parse_domain(text: str) -> str:
    plain = text.rstrip(".").lower()
    if not re.fullmatch(_DOMAIN, plain):
        raise ValueError(f"{text!r} is not a domain: write for example corp.example")
    return plain


def _parse_path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("names no file: give the name of a file")
    if re.fullmatch(_KEY, text):
        # Not repeated in the message: messages end up in logs.
        raise ValueError("holds a key, not the name of a file: write the key to a file and name that")
    return Path(text)


def _parse_peer(text: str) -> PeerRef:
    # Imported here: it loads the cryptography library, which half of the commands do without.
    from caetun.session.identity import decode_key

    key, *words = text.split(",")
    if key.startswith(_BY_NAME):
        from caetun.session.engine import peer_id

        name = key.removeprefix(_BY_NAME)
        if not re.fullmatch("[^\\s,]{1,64}", name):
            raise ValueError(f"{key!r} names nobody: write cn: and the name in the certificate, 1 to 64 characters")
        return PeerRef(peer_id(name), parse_words(words), name)
    try:
        return PeerRef(decode_key(key.strip()), parse_words(words))
    except ConfigurationError as error:
        raise ValueError(str(error)) from None


def _parse_peer_table(table: dict[str, object]) -> PeerRef:
    key = table.get("key")
    if not isinstance(key, str):
        raise ValueError('has no key: write key = "PUBKEY" in each [[peer]]')
    words = parse_table({word: value for word, value in table.items() if word != "key"})
    return _parse_peer(key)._replace(port=words)


def _parse_port(text: str) -> PortWords:
    return parse_words(text.split(","))


def _parse_rule(text: str) -> str:
    # Imported here: most tunnels have no rules.
    from caetun.mangle.rules import parse_rule

    return parse_rule(text).text


def _parse_defaults(text: str) -> PortWords:
    return nameless(_parse_port(text))


def _parse_defaults_table(table: dict[str, object]) -> PortWords:
    return nameless(parse_table(table))


def _parse_querier(text: str) -> bytes:
    return querier_addresses([address(text)])[0]


def _parse_bridge(text: str) -> BridgeRef:
    name, separator, word = text.partition(":")
    if not re.fullmatch(_DEVICE_NAME, name) or (separator and word != "create"):
        raise ValueError(f"{text!r} is not a bridge: give the name of one, or NAME:create to have it made")
    return BridgeRef(name, bool(separator))


def _parse_proxy(text: str) -> str:
    # Imported here: most tunnels need no proxy.
    from caetun.transports.proxy import parse_proxy

    parse_proxy(text)
    return text


def _parse_fingerprint(text: str) -> str:
    plain = text.lower().replace(":", "").removeprefix("sha256")
    if not text.lower().startswith("sha256:") or not re.fullmatch("[0-9a-f]{64}", plain):
        raise ValueError(f"{text!r} is not a fingerprint: write sha256: and 64 hexadecimal digits")
    return f"sha256:{plain}"


def _parse_decoy(text: str) -> str:
    if text.startswith("https://"):
        raise ValueError(f"{text!r} is not supported: name a web server on this host or network as http://HOST:PORT")
    if text.startswith("http://"):
        return text
    if not text or "\0" in text:
        raise ValueError("names no directory: give one, or http://HOST:PORT")
    return text


def _parse_methods(text: str) -> tuple[str, ...]:
    # Imported here: most tunnels compress nothing.
    from caetun.compression.registry import parse_methods

    return parse_methods(text)


def _parse_text(text: str) -> str:
    if not re.fullmatch(r"[!-~]{1,253}", text):
        raise ValueError(f"{text!r} is not a name: use 1 to 253 printable characters without spaces")
    return text


def _parse_nothing(text: str) -> object:
    raise ValueError(f"is a switch and takes no {text!r}: leave it away")


def _toml_type(raw: object) -> str:
    """What a person would call a TOML value."""
    words = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return words.get(type(raw), "a date or time")


SWITCH: Final = Kind("", _parse_nothing, "true, false")
MODE: Final = Kind("MODE", _parse_mode, ", ".join(Mode))
DEVICE: Final = Kind("NAME", _parse_device, "NAME or fd:N")
ADDRESS: Final = Kind("ADDR", _parse_address, "an IPv4 or IPv6 address")
DOMAIN: Final = Kind("NAME", _parse_domain, "a domain")
INTERFACE: Final = Kind("CIDR", _parse_interface, "ADDRESS/PREFIX")
LISTEN: Final = Kind("ENDPOINT", parse_endpoint, "[HOST]:PORT or URL")
REMOTE: Final = Kind("ENDPOINT", parse_remote, "HOST:PORT or URL")
TRANSPORTS: Final = Kind("LIST", parse_transports, f"auto, or some of {', '.join(BUILT_IN)}, with commas")
PROXY: Final = Kind("URL", _parse_proxy, "http://[USER:PASSWORD@]HOST:PORT or socks5://...")
FINGERPRINT: Final = Kind("sha256:HEX", _parse_fingerprint, "sha256: and 64 hexadecimal digits")
DECOY: Final = Kind("DIR|URL", _parse_decoy, "a directory, or http://HOST[:PORT]")
TEXT: Final = Kind("NAME", _parse_text)
COMPRESS: Final = Kind("LIST", _parse_methods, "none, or some of lz4, zstd, with commas, best first")
FILE: Final = Kind("FILE", _parse_path)
PEER: Final = Kind("PUBKEY[,WORD...]", _parse_peer, "PUBKEY[,WORD...] or cn:NAME[,WORD...]", table=_parse_peer_table)
PORT: Final = Kind("WORD[,WORD...]", _parse_port, "words as of a peer, see docs/switch.md", table=parse_table)
PORT_DEFAULTS: Final = Kind(
    "WORD[,WORD...]", _parse_defaults, "words as of a peer, see docs/switch.md", table=_parse_defaults_table
)
VLAN: Final = Kind(
    "ID[,WORD...]", parse_vlan, "snooping=on or off, querier=on, off or addresses", table=parse_vlan_table
)
QUERIER: Final = Kind("ADDRESS", _parse_querier, "IPv4 or link-local IPv6 address")
MANGLE: Final = Kind("RULE", _parse_rule, "a rule as `out drop udp port 5353`")
BRIDGE: Final = Kind("NAME", _parse_bridge, "NAME or NAME:create")
