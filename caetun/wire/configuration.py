"""Messages of the configuration handshake: JSON objects (docs/wire.md, section 7), checked against a schema.

{"type": "offer", "version": 1, "policy": "server", "role": "client", "mode": "tap", "mtu": 1500, ...}

Unknown members are ignored, so that a later version may add some.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from caetun.errors import Malformed
from caetun.types import DropReason

# fixed by the specification
VERSION: Final = 1
MAX_WORDS: Final = 64
"""Features, ciphers, ignored lines."""
MAX_ADDRESSES: Final = 8
MAX_ROUTES: Final = 256
MAX_RESOLVERS: Final = 8
_WORD: Final = 64
_LINE: Final = 256

Word: TypeAlias = Annotated[str, msgspec.Meta(max_length=_WORD, pattern=r"^[\x20-\x7e]*\Z")]
Methods: TypeAlias = Annotated[str, msgspec.Meta(max_length=_LINE, pattern=r"^[a-z0-9,-]*\Z")]
"""Names with commas, best first, or none."""
Line: TypeAlias = Annotated[str, msgspec.Meta(max_length=_LINE)]
Domain: TypeAlias = Annotated[
    str, msgspec.Meta(max_length=253, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_-]{1,63})*\Z")
]
"""It will stand in resolv.conf, beside words that mean something there, and among arguments of resolvectl."""
Words: TypeAlias = Annotated[tuple[Word, ...], msgspec.Meta(max_length=MAX_WORDS)]
Places: TypeAlias = Annotated[tuple[Word, ...], msgspec.Meta(max_length=MAX_ADDRESSES)]
Routes: TypeAlias = Annotated[tuple[Word, ...], msgspec.Meta(max_length=MAX_ROUTES)]
Mtu: TypeAlias = Annotated[int, msgspec.Meta(ge=68, le=65535)]
Serial: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class Message(msgspec.Struct, tag_field="type", tag=str.lower, frozen=True):
    """What all have in common: `type`."""


class Offer(Message, frozen=True):
    """What one end is set to. The first message of each end."""

    policy: Literal["symmetric", "server"]
    role: Literal["equal", "server", "client"]
    """client: it wants to be told; server: it tells; equal: neither."""
    mode: Word
    mtu: Mtu
    version: Annotated[int, msgspec.Meta(ge=1, le=65535)] = VERSION
    compression: Methods = "none"
    features: Words = ()
    """Names, sorted."""


class Assigned(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a server tells a client to use. What is absent, it leaves alone."""

    address: Places = ()
    """Each with its prefix length."""
    via: Places = ()
    """The server's own addresses inside the tunnel."""
    route: Routes = ()
    dns: Places = ()
    domain: Annotated[tuple[Domain, ...], msgspec.Meta(max_length=MAX_RESOLVERS)] = ()
    gateway: bool = False
    mtu: Mtu | None = None
    keepalive: Annotated[float, msgspec.Meta(ge=1, le=3600)] | None = None
    """Seconds."""
    compression: Methods | None = None
    cipher: Words = ()
    """Best first."""

    def lines(self) -> list[str]:
        """One line for each thing that is told, as people and pull filters read it."""
        lines = [f"{word} {value}" for word in ("address", "route", "dns", "domain") for value in getattr(self, word)]
        lines += ["gateway"] if self.gateway else []
        lines += [f"mtu {self.mtu}"] if self.mtu is not None else []
        lines += [f"keepalive {self.keepalive:g}"] if self.keepalive is not None else []
        lines += [f"compression {self.compression}"] if self.compression is not None else []
        return lines + ([f"cipher {' '.join(self.cipher)}"] if self.cipher else [])


class Push(Message, frozen=True):
    """The server tells the client, for the first time or because something has changed: all of it."""

    serial: Serial
    """Grows with each."""
    settings: Assigned


class Applied(Message, frozen=True):
    """The client has done so."""

    serial: Serial
    ignored: Annotated[tuple[Line, ...], msgspec.Meta(max_length=MAX_ROUTES)] = ()
    """Lines that its filter or its own settings left out."""


class Refused(Message, frozen=True):
    """It cannot be."""

    reason: Line


class Off(Message, frozen=True):
    """There is nothing to negotiate here."""


Configuration: TypeAlias = Offer | Push | Applied | Refused | Off
_DECODER: Final = msgspec.json.Decoder(Configuration)
_ENCODER: Final = msgspec.json.Encoder()


def encode(message: Configuration) -> bytes:
    """The body of a message of kind CONFIGURATION."""
    return _ENCODER.encode(message)


def decode(body: bytes) -> Configuration:
    """Raises Malformed."""
    try:
        message: Configuration = _DECODER.decode(body)
        if isinstance(message, Push):
            _check_addresses(message.settings)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Malformed(DropReason.CHANNEL_MALFORMED, str(error)) from None
    return message


def _check_addresses(settings: Assigned) -> None:
    """Raises ValueError."""
    for text in settings.address:
        interface = ip_interface(text)
        if (
            "/" not in text
            or "%" in text
            or interface.is_multicast
            or interface.is_unspecified
            or interface.is_loopback
        ):
            raise ValueError(f"{text}: cannot be a host's address")
    for text in settings.route:
        network = ip_network(text)
        if not network.prefixlen or network.is_multicast or network.is_loopback or network.is_link_local:
            raise ValueError(f"{text}: cannot be a route into a tunnel")
    for text in (*settings.dns, *settings.via):
        ip_address(text)
