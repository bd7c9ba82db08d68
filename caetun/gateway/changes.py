"""A change of the host as plain data: what is planned, made, undone, and written to the state file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias


@dataclass(frozen=True, slots=True)
class Route:
    """A route (ip-route(8)) in a table of its own."""

    network: str
    """CIDR; the default route is 0.0.0.0/0 or ::/0."""
    table: int
    device: str = ""
    """Where it leads; "": nowhere, whoever tries is told so (unreachable)."""
    via: str = ""
    """Next hop; "" on a link that needs none."""
    metric: int = 0
    """The least wins; 0: the kernel's default."""

    @property
    def key(self) -> str:
        """What is changed: of two changes with one key the later replaces the earlier."""
        return f"route {self}"

    def __str__(self) -> str:
        where = f"{f'via {self.via} ' if self.via else ''}dev {self.device}" if self.device else "unreachable"
        return f"route {self.network} {where} table {self.table}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A routing rule (ip-rule(8))."""

    version: int
    """Of IP: 4 or 6."""
    priority: int
    """Rules are asked from the least on."""
    table: int
    to: str = ""
    """CIDR of destinations it is about; "": all."""
    mark: int = 0
    """Only packets with this mark are its business; 0: any are."""
    except_mark: int = 0
    """Packets with this mark pass it by; 0: none does."""
    ignore_default: bool = False
    """Whether the table's default route does not count."""
    ignore_to: int = 0
    """Nor do its routes with a prefix of up to so many bits, with `ignore_default`."""

    @property
    def key(self) -> str:
        """As of `Route`."""
        return f"rule {self}"

    def __str__(self) -> str:
        words = [f"rule {self.priority}: IPv{self.version}"]
        words += [f"to {self.to}"] if self.to else []
        words += [f"by more than /{self.ignore_to}"] if self.ignore_to else []
        words += [f"marked {self.mark:#x}"] if self.mark else []
        words += [f"not marked {self.except_mark:#x}"] if self.except_mark else []
        return " ".join([*words, f"lookup {self.table}"])


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A setting under /proc/sys."""

    name: str
    """With slashes: net/ipv4/ip_forward."""
    value: str
    along: tuple[str, ...] = ()
    """Patterns of settings that the kernel changes with it, and that have to be given back too."""

    @property
    def key(self) -> str:
        """As of `Route`."""
        return f"sysctl {self.name}"

    def __str__(self) -> str:
        return f"sysctl {self.name.replace('/', '.')} = {self.value}"


@dataclass(frozen=True, slots=True)
class Ruleset:
    """A table of nftables that belongs to the tunnel alone."""

    name: str
    """Family and name: `inet caetun_tun0`."""
    body: str
    """What stands between its braces."""

    @property
    def key(self) -> str:
        """As of `Route`."""
        return f"nftables {self.name}"

    def __str__(self) -> str:
        return f"nftables table {self.name}"


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """The name servers in /etc/resolv.conf (resolv.conf(5))."""

    device: str
    """The tunnel's, which signs the file."""
    servers: tuple[str, ...]
    domains: tuple[str, ...] = ()
    """Appended to names without a dot."""

    @property
    def key(self) -> str:
        """As of `Route`."""
        return "resolv.conf"

    def __str__(self) -> str:
        return f"/etc/resolv.conf: {', '.join(self.servers)}"


@dataclass(frozen=True, slots=True)
class ResolvedLink:
    """What systemd-resolved knows of the tunnel's device (resolvectl(1))."""

    device: str
    servers: tuple[str, ...]
    domains: tuple[str, ...] = ()
    everything: bool = False
    """Whether these servers are asked for every name, not only for those in `domains`."""

    @property
    def key(self) -> str:
        """As of `Route`."""
        return f"resolved {self.device}"

    def __str__(self) -> str:
        return f"systemd-resolved on {self.device}: {', '.join(self.servers)}"


Change: TypeAlias = Route | Rule | Sysctl | Ruleset | ResolvConf | ResolvedLink

_KINDS: Final[Mapping[str, type[Any]]] = {
    kind.__name__: kind for kind in (Route, Rule, Sysctl, Ruleset, ResolvConf, ResolvedLink)
}


def to_json(change: Change) -> dict[str, Any]:
    """Its form in the state file."""
    return {"kind": type(change).__name__, **dataclasses.asdict(change)}


def from_json(raw: Mapping[str, Any]) -> Change:
    """The opposite. Raises ValueError for what `to_json` does not make."""
    values = dict(raw)
    kind = _KINDS.get(str(values.pop("kind", "")))
    if kind is None:
        raise ValueError(f"unknown kind of change: {raw.get('kind')!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if not values.keys() <= fields.keys():
        raise ValueError(f"unknown properties: {', '.join(values.keys() - fields.keys())}")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        change: Change = kind(**values)
    except TypeError as error:
        raise ValueError(str(error)) from None
    return change
