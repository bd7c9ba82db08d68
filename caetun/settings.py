"""Every option of CaeTun, declared once.

A field of `Settings` is an option: its name is the flag (`--log-level`), the TOML key (`log-level`) and the variable of
the environment (`CAETUN_LOG_LEVEL`), its default the option's, its annotation says the rest. Flags win over the
environment, that over the file, the file over defaults; a repeatable option replaces the whole list.
"""

# No `from __future__ import annotations`: these are values here, and making them from text takes milliseconds.

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Final

from caetun.agreement import ROUTE, Agreement, Network
from caetun.endpoint import Endpoint
from caetun.options import (
    ADDRESS,
    BRIDGE,
    COMPRESS,
    DECOY,
    DEVICE,
    DOMAIN,
    FILE,
    FINGERPRINT,
    INTERFACE,
    LISTEN,
    MANGLE,
    MODE,
    PEER,
    PORT,
    PORT_DEFAULTS,
    PROXY,
    QUERIER,
    REMOTE,
    SWITCH,
    TEXT,
    TRANSPORTS,
    VLAN,
    BridgeRef,
    DeviceRef,
    Interface,
    Option,
    choice,
    duration,
    integer,
)
from caetun.ports import PeerRef, PortWords
from caetun.types import Mode
from caetun.vlans import VlanRef

# fixed by the specification
_MTU: Final = integer(576, 65500, "BYTES", "bytes")
"""576: what every IPv4 host takes (RFC 791 section 3.2). 65500: with its Ethernet header it stays below 64 KiB."""

# chosen by us
_ANY_DEVICE: Final = DeviceRef()
_PLAIN_PORT: Final = PortWords()

GROUPS: Final = {
    "net": "where to",
    "outer": "carriers",
    "device": "device",
    "gateway": "gateway",
    "switch": "switch (--mode tap with several peers)",
    "router": "router (--mode tun with several peers)",
    "keys": "keys",
    "auth": "authentication",
    "session": "session",
    "agreement": "what the ends agree upon",
    "general": "configuration and messages",
}
"""Headings of `--help` and of the reference, in order."""


class Origin(enum.StrEnum):
    """Where a value comes from."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"


@dataclass(frozen=True, kw_only=True)
class Settings(Agreement):
    """What a tunnel is asked to do. Holds names of key files, never keys; a proxy's password is not in its `repr`."""

    listen: Annotated[
        tuple[Endpoint, ...], Option(LISTEN, "net", "wait for far ends here, by every transport named", repeatable=True)
    ] = ()
    connect: Annotated[
        tuple[Endpoint, ...],
        Option(REMOTE, "net", "call the far end there; of several, the first that answers is taken", repeatable=True),
    ] = ()
    transport: Annotated[
        tuple[str, ...],
        Option(TRANSPORTS, "net", "how to travel, best first, where no URL says so; auto: whatever gets through"),
    ] = ("udp",)

    proxy: Annotated[
        str, Option(PROXY, "outer", "reach stream transports by this proxy (else HTTPS_PROXY, ALL_PROXY)")
    ] = field(default="", repr=False)
    tls_cert: Annotated[Path | None, Option(FILE, "outer", "certificate to show; without: self-signed, and kept")] = (
        None
    )
    tls_key: Annotated[Path | None, Option(FILE, "outer", "its private key")] = None
    tls_ca: Annotated[Path | None, Option(FILE, "outer", "certificates to trust instead of the system's")] = None
    tls_pin: Annotated[
        tuple[str, ...], Option(FINGERPRINT, "outer", "accept only a server with this certificate", repeatable=True)
    ] = ()
    tls_verify: Annotated[
        str,
        Option(
            choice("auto", "strict", "off"),
            "outer",
            "outer certificates that do not verify; auto: report once and go on, as the tunnel has its own keys",
        ),
    ] = "auto"
    sni: Annotated[str, Option(TEXT, "outer", "server name to send in TLS and QUIC")] = ""
    host: Annotated[str, Option(TEXT, "outer", "Host header of WebSocket requests")] = ""
    alpn: Annotated[str, Option(TEXT, "outer", "application protocol that QUIC announces")] = "h3"
    decoy: Annotated[str, Option(DECOY, "outer", "web site for strangers; without: an empty one")] = ""

    mode: Annotated[Mode | None, Option(MODE, "device", "carry IP packets (tun) or Ethernet frames (tap)")] = Mode.TUN
    """None: whatever kind the device is."""
    dev: Annotated[
        DeviceRef, Option(DEVICE, "device", "name of the device, or an open descriptor; without: next free caetunN")
    ] = _ANY_DEVICE
    address: Annotated[
        tuple[Interface, ...], Option(INTERFACE, "device", "IPv4 or IPv6 address of the device", repeatable=True)
    ] = ()
    route: Annotated[
        tuple[Network, ...], Option(ROUTE, "device", "lead this network into the tunnel", repeatable=True)
    ] = ()
    mtu: Annotated[
        int, Option(_MTU, "device", "largest packet of the device, whatever the path carries", reloadable=True)
    ] = 1500
    """Bytes."""
    offload: Annotated[
        bool, Option(SWITCH, "device", "exchange superframes with the kernel; without, every packet crosses alone")
    ] = True

    mangle: Annotated[
        tuple[str, ...],
        Option(MANGLE, "device", "change or drop frames, rules in order, see docs/mangle.md", repeatable=True),
    ] = ()
    gateway: Annotated[bool, Option(SWITCH, "gateway", "lead all traffic of this host through the tunnel")] = False
    gateway_lan: Annotated[
        bool, Option(SWITCH, "gateway", "with --gateway: private networks that this host has routes to stay reachable")
    ] = True
    gateway_via: Annotated[
        tuple[IPv4Address | IPv6Address, ...],
        Option(ADDRESS, "gateway", "with --gateway and --mode tap: the router in the tunnel", repeatable=True),
    ] = ()
    kill_switch: Annotated[
        bool, Option(SWITCH, "gateway", "with --gateway: nothing leaves but by the tunnel, even while it is down")
    ] = False
    dns: Annotated[
        tuple[IPv4Address | IPv6Address, ...],
        Option(ADDRESS, "gateway", "name server that this host asks while the tunnel runs", repeatable=True),
    ] = ()
    dns_domain: Annotated[
        tuple[str, ...],
        Option(DOMAIN, "gateway", "domain in which names without a dot are looked for, see --dns", repeatable=True),
    ] = ()
    masquerade: Annotated[
        bool, Option(SWITCH, "gateway", "let far ends out into the world, under this host's addresses (NAT)")
    ] = False

    bridge: Annotated[BridgeRef | None, Option(BRIDGE, "switch", "make the device a member of this Linux bridge")] = (
        None
    )
    port: Annotated[PortWords, Option(PORT, "switch", "settings of the port to the device")] = _PLAIN_PORT
    port_defaults: Annotated[
        PortWords, Option(PORT_DEFAULTS, "switch", "settings of every peer's port that does not say otherwise")
    ] = _PLAIN_PORT
    vlan: Annotated[
        tuple[VlanRef, ...], Option(VLAN, "switch", "a VLAN whose multicast differs from the others'", repeatable=True)
    ] = ()
    snooping: Annotated[bool, Option(SWITCH, "switch", "send multicast to those only who asked for it")] = True
    querier: Annotated[bool, Option(SWITCH, "switch", "ask who wants multicast, while no multicast router does")] = True
    querier_address: Annotated[
        tuple[bytes, ...],
        Option(QUERIER, "switch", "ask from this address, and take part in elections; else yield", repeatable=True),
    ] = ()
    query_interval: Annotated[
        float,
        Option(duration(20, 3600), "switch", "ask so often; who never answers is forgotten after twice that and 20 s"),
    ] = 125.0
    """Seconds."""
    unregistered: Annotated[
        str,
        Option(choice("routers", "flood", "drop"), "switch", "where multicast goes that nobody has asked for"),
    ] = "routers"
    ageing: Annotated[
        float, Option(duration(10, 1_000_000), "switch", "forget an address that was not seen for so long")
    ] = 300.0
    """Seconds."""
    flap_guard: Annotated[
        bool, Option(SWITCH, "switch", "hold an address that keeps moving between ports; mute a port of many")
    ] = True
    loop_probes: Annotated[bool, Option(SWITCH, "switch", "send probes, and mute a port by which one comes back")] = (
        True
    )
    suppression: Annotated[
        str,
        Option(
            choice("off", "direct", "answer"),
            "switch",
            "questions (ARP, ND) for a known neighbour: to all ports, to his, or answered by the switch",
        ),
    ] = "off"

    client_to_client: Annotated[
        str,
        Option(choice("on", "off", "host"), "router", "packets from peer to peer; host: by this host's own rules"),
    ] = "on"

    mesh: Annotated[
        bool, Option(SWITCH, "router", "let peers of one hub find direct ways to each other; on the hub, and on each")
    ] = False

    security: Annotated[
        str, Option(choice("noise", "tls"), "keys", "who is who: by keys (noise), or by X.509 certificates (tls)")
    ] = "noise"
    secret_file: Annotated[Path | None, Option(FILE, "keys", "file with the secret that both ends share")] = None
    key: Annotated[Path | None, Option(FILE, "keys", "file with the private key of this end; wants a peer too")] = None
    peer: Annotated[
        tuple[PeerRef, ...],
        Option(
            PEER,
            "keys",
            "public key of a far end, or the name in its certificate, and words about it; a hub has several",
            repeatable=True,
        ),
    ] = ()
    peer_psk_file: Annotated[
        Path | None, Option(FILE, "keys", "file with a pre-shared key on top of the key pairs")
    ] = None
    ca: Annotated[Path | None, Option(FILE, "keys", "authorities whose certificates the far ends show (PEM)")] = None
    cert: Annotated[Path | None, Option(FILE, "keys", "certificate of this end, and those between it and --ca")] = None
    cert_key: Annotated[Path | None, Option(FILE, "keys", "its private key")] = None
    crl: Annotated[
        Path | None, Option(FILE, "keys", "certificates that the authorities have revoked; SIGHUP reads it again")
    ] = None
    tls_library: Annotated[str, Option(TEXT, "keys", "library for --security tls: openssl, tlslite, or a plugin's")] = (
        "openssl"
    )

    auth: Annotated[
        tuple[str, ...],
        Option(
            TEXT,
            "auth",
            "whoever calls must pass this, in order: key, certificate, password, totp, command, or a plugin's",
            repeatable=True,
        ),
    ] = ()
    users: Annotated[
        Path | None, Option(FILE, "auth", "users and their passwords, see `caetun passwd`; SIGHUP reads it again")
    ] = None
    auth_command: Annotated[Path | None, Option(FILE, "auth", "program that decides, see docs/authentication.md")] = (
        None
    )
    credentials: Annotated[
        Path | None, Option(FILE, "auth", "user and password for a far end that asks; without: asks at the terminal")
    ] = None

    cipher: Annotated[
        str,
        Option(
            choice("auto", "aes-gcm", "chacha20-poly1305"), "session", "cipher; auto: what this machine does faster"
        ),
    ] = "auto"
    post_quantum: Annotated[
        str, Option(choice("auto", "require", "off"), "session", "add ML-KEM-768 to the key exchange")
    ] = "auto"
    keepalive: Annotated[
        float,
        Option(
            duration(1, 3600),
            "session",
            "when nothing else was sent for so long, send an empty record",
            reloadable=True,
        ),
    ] = 10.0
    """Seconds."""
    compress: Annotated[
        tuple[str, ...],
        Option(
            COMPRESS,
            "session",
            "make records smaller if the far end agrees; leaks what is in them, see docs/modules.md",
        ),
    ] = ()
    rekey_after: Annotated[
        float, Option(duration(1, 120), "session", "make new traffic keys when they are so old", hidden=True)
    ] = 120.0
    """Seconds."""
    span: Annotated[
        int, Option(integer(0, 44, "N", "datagrams"), "session", "length of a sealed record; 0: automatic", hidden=True)
    ] = 0

    config: Annotated[
        Path | None,
        Option(
            FILE,
            "general",
            "read options from this TOML file, or a .conf file in the manner of WireGuard",
            in_file=False,
        ),
    ] = None
    log_level: Annotated[
        str,
        Option(
            choice("error", "warning", "info", "debug"), "general", "least weight of messages shown", reloadable=True
        ),
    ] = "info"
    log_format: Annotated[
        str, Option(choice("text", "json"), "general", "messages for people or for programs", reloadable=True)
    ] = "text"
    verbose: Annotated[bool, Option(SWITCH, "general", "print counters at exit", short="-v", reloadable=True)] = False

    @property
    def enrols(self) -> bool:
        """Whether hosts can be invited: it is a hub with a key pair. A router needs a pool, which leads to them."""
        serves = self.negotiation == "server" and not self.connect and self.key is not None
        # Who is invited has nothing to answer a hub with that asks (--auth).
        return serves and not self.auth and (self.mode is Mode.TAP or bool(self.pool_network))

    manage_device: bool = True
    """False: the device is somebody else's (`ttun`): use it, change neither addresses, MTU nor whether it is up."""
    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False)
    """Field name -> where its value comes from."""


def _declared() -> dict[str, Option]:
    """The options in the annotations of `Settings`, each with its name and default."""
    found: dict[str, Option] = {}
    for each in dataclasses.fields(Settings):
        for note in getattr(each.type, "__metadata__", ()):
            found[each.name] = dataclasses.replace(note, name=each.name, default=each.default)
    return found


OPTIONS: Final[Mapping[str, Option]] = _declared()
"""Field name -> option, in the order of the reference."""
