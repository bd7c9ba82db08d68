"""Every option of CaeTun, declared once, and how flags and the configuration file become `Settings`.

A field of `Settings` is an option: its name is the flag (`--log-level`), the TOML key (`log-level`) and the variable of
the environment (`CAETUN_LOG_LEVEL`), its default the option's, its annotation says the rest. Flags win over the
environment, that over the file, the file over defaults; a repeatable option replaces the whole list.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, get_type_hints

from caetun.agreement import ROUTE, Agreement, Network, check_agreement
from caetun.coherence import check_gateway
from caetun.configfile import ConfigFile
from caetun.endpoint import Endpoint
from caetun.errors import ConfigurationError
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
from caetun.vlans import VlanRef, querier_addresses

# fixed by the specification
_IPV6_MIN_MTU: Final = 1280
"""Bytes (RFC 8200 section 5): Linux takes IPv6 off an interface with a smaller MTU."""
_MTU: Final = integer(576, 65500, "BYTES", "bytes")
"""576: what every IPv4 host takes (RFC 791 section 3.2). 65500: with its Ethernet header it stays below 64 KiB."""

# chosen by us
_PRIVATE_KEY: Final = "private-key"
"""In a file that is all a host needs, instead of `key`: the private key itself (`caetun join` writes it)."""
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
        Option(duration(20, 3600), "switch", "ask so often; who never answers is forgotten after twice that and 10 s"),
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
    flap_guard: Annotated[bool, Option(SWITCH, "switch", "hold an address that keeps moving between ports")] = True
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


class Reread(NamedTuple):
    """What SIGHUP brought: settings to go on with, keys changed now, keys that take a restart."""

    settings: Settings
    applied: tuple[str, ...]
    restart: tuple[str, ...]


def _declared() -> dict[str, Option]:
    """The options in the annotations of `Settings`, each with its name and default."""
    hints = get_type_hints(Settings, include_extras=True)
    found: dict[str, Option] = {}
    for each in dataclasses.fields(Settings):
        for note in getattr(hints[each.name], "__metadata__", ()):
            found[each.name] = dataclasses.replace(note, name=each.name, default=each.default)
    return found


OPTIONS: Final[Mapping[str, Option]] = _declared()
"""Field name -> option, in the order of the reference."""


def load(flags: Mapping[str, object], environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from flags (field name -> text, list of texts or bool, as argparse leaves them) and the file they name.

    `environ`: the environment. Raises ConfigurationError.
    """
    given: dict[str, Any] = {}
    for name, raw in flags.items():
        option = OPTIONS[name]
        try:
            given[name] = option.read(raw)
        except ValueError as error:
            raise ConfigurationError(f"{option.flag}: {error}") from None
    settings = _merge(given, read_environment(environ or {}))
    check(settings)
    return settings


def read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Values by field name of the variables that are named like options: CAETUN_MTU=1400. Raises ConfigurationError.

    Of a repeatable option blanks stand between the values.
    """
    values: dict[str, Any] = {}
    for option in OPTIONS.values():
        variable = f"CAETUN_{option.name.upper()}"
        text = environ.get(variable)
        if text is None:
            continue
        raw: object = text.split() if option.repeatable else text
        if option.kind is SWITCH:
            raw = {"true": True, "false": False}.get(text.lower(), text)
        try:
            values[option.name] = option.read(raw)
        except ValueError as error:
            raise ConfigurationError(f"{variable}: {error}") from None
    return values


def reread(settings: Settings) -> Reread:
    """Read the configuration file again (SIGHUP). Flags keep their precedence; only reloadable options change.

    Raises ConfigurationError, and then nothing has changed.
    """
    if settings.config is None:
        return Reread(settings, (), ())
    kept = {
        origin: {name: getattr(settings, name) for name, come in settings.origins.items() if come is origin}
        for origin in (Origin.FLAG, Origin.ENVIRONMENT)
    }
    fresh = _merge(kept[Origin.FLAG], kept[Origin.ENVIRONMENT])
    check(fresh)
    changed = [name for name in OPTIONS if getattr(fresh, name) != getattr(settings, name)]
    now = [name for name in changed if OPTIONS[name].reloadable]
    values: dict[str, Any] = {name: getattr(fresh, name) for name in now}
    origins = {**settings.origins, **{name: fresh.origins[name] for name in now}}
    return Reread(
        dataclasses.replace(settings, **values, origins=origins),
        tuple(OPTIONS[name].key for name in now),
        tuple(OPTIONS[name].key for name in changed if name not in now),
    )


def read_file(path: Path) -> dict[str, Any]:
    """Values by field name from a TOML file, or one in the manner of WireGuard if its name ends in `.conf`.

    Paths in it are relative to its folder. Raises ConfigurationError.

    `[pool] network = ...` is another way to write `pool-network = ...`.
    """
    if path.suffix == ".conf":
        # Imported here: most files are TOML.
        from caetun.conffile import read_conf

        return read_conf(path, OPTIONS)
    values, wrong = _read(ConfigFile(path))
    if wrong:
        raise ConfigurationError(wrong[0])
    return values


def mistakes(path: Path) -> list[str]:
    """All that is wrong with the keys of a file, a line each. Raises ConfigurationError if it cannot be read at all."""
    if path.suffix == ".conf":
        read_file(path)
        return []
    return _read(ConfigFile(path))[1]


def _read(file: ConfigFile) -> tuple[dict[str, Any], list[str]]:
    """Values by field name, and what is wrong with the rest."""
    path = file.path
    values: dict[str, Any] = {}
    wrong: list[str] = []
    by_key = {option.key: option for option in OPTIONS.values() if option.in_file}
    for key, raw in file.values(by_key).items():
        if key == _PRIVATE_KEY:
            values["key"] = path  # which is read as a key file, too
            continue
        if key not in by_key:
            wrong.append(f"{path}: {file.line(key)}{key}: no such option: {_suggestion(key, by_key)}")
            continue
        option = by_key[key]
        try:
            value = option.read(raw)
        except ValueError as error:
            wrong.append(f"{path}: {file.line(key, str(error))}{key}: {error}")
            continue
        values[option.name] = path.parent / value if isinstance(value, Path) else value
    return values, wrong


def check(settings: Settings) -> None:
    """Whether the values go together. Raises ConfigurationError."""
    if not settings.listen and not settings.connect:
        raise ConfigurationError(
            "where to: neither --listen nor --connect given: wait with --listen :PORT or call with --connect HOST:PORT"
        )
    check_agreement(settings, bool(settings.connect))
    _check_keys(settings)
    _check_auth(settings)
    _check_outer(settings)
    _check_switch(settings)
    check_gateway(settings)
    if settings.mtu < _IPV6_MIN_MTU and any(address.version == 6 for address in settings.address):
        raise ConfigurationError(
            f"--mtu: {settings.mtu} is too small for the IPv6 address given: IPv6 needs {_IPV6_MIN_MTU} or more"
        )
    for option in OPTIONS.values():
        values = getattr(settings, option.name)
        if option.repeatable and len(set(values)) < len(values):
            raise ConfigurationError(f"{option.flag}: one value is given twice: leave one away")


def _check_keys(settings: Settings) -> None:
    """One shared secret, or a key of our own with one peer's, or certificates."""
    if settings.security == "tls":
        _check_certificates(settings)
        return
    for name in ("ca", "crl"):
        if getattr(settings, name) and "certificate" not in settings.auth:
            raise ConfigurationError(
                f"{OPTIONS[name].flag}: is for --security tls or --auth certificate: add one of them, or leave it away"
            )
    for peer in settings.peer:
        if peer.certificate_name:
            raise ConfigurationError(
                f"--peer: cn:{peer.certificate_name} names a certificate, which --security tls has: add it, or give a "
                "public key"
            )
    if settings.secret_file is None and settings.key is None:
        raise ConfigurationError(
            "keys: none given, and CaeTun never runs without: give --secret-file FILE "
            "(make one: caetun gensecret -o FILE), or --key FILE and --peer PUBKEY"
        )
    if settings.secret_file is not None:
        for name in ("key", "peer", "peer_psk_file"):
            if getattr(settings, name):
                raise ConfigurationError(
                    f"{OPTIONS[name].flag}: cannot be used with --secret-file: choose a shared secret or key pairs"
                )
    elif not settings.peer and not settings.enrols and not _takes_guests(settings):
        raise ConfigurationError("--peer: no public key given: give the far end's (there: caetun pubkey < KEYFILE)")
    keys = [peer.key for peer in settings.peer]
    if len(set(keys)) < len(keys):
        raise ConfigurationError("--peer: one public key is given twice: leave one away")


def _takes_guests(settings: Settings) -> bool:
    """Whether far ends may come that are not named: those who call must then say who they are."""
    return bool(settings.auth) and "key" not in settings.auth and not settings.connect


def _check_auth(settings: Settings) -> None:
    """Whoever asks has something to compare the answers with."""
    if settings.auth and not settings.listen:
        raise ConfigurationError("--auth: asks those who call, and nobody can: add --listen, or leave it away")
    if (settings.cert is None) != (settings.cert_key is None):
        given, missing = ("--cert", "--cert-key") if settings.cert else ("--cert-key", "--cert")
        raise ConfigurationError(f"{given}: given without {missing}: a certificate is shown with its key, give both")
    asked = set(settings.auth)
    wanted = (("users", {"password", "totp"}), ("auth_command", {"command"}), ("ca", {"certificate"}))
    for name, modules in wanted:
        flag, value = OPTIONS[name].flag, getattr(settings, name)
        if asked & modules and value is None:
            raise ConfigurationError(f"{flag}: not given: --auth {min(asked & modules)} needs it")
        if value is not None and not asked & modules and name != "ca":
            raise ConfigurationError(f"{flag}: of no use without --auth {' or '.join(sorted(modules))}: add it")
    if "totp" in asked and not asked & {"password", "certificate", "command"}:
        raise ConfigurationError("--auth: totp alone does not say whose code it is: put password before it")


def _check_certificates(settings: Settings) -> None:
    """Certificates in place of keys."""
    for name in ("secret_file", "key"):
        if getattr(settings, name):
            raise ConfigurationError(
                f"{OPTIONS[name].flag}: --security tls has certificates instead of keys: leave it away, or the other"
            )
    for name in ("ca", "cert", "cert_key"):
        if not getattr(settings, name):
            raise ConfigurationError(
                f"{OPTIONS[name].flag}: not given: --security tls wants --ca, --cert and --cert-key "
                "(make them: caetun pki init, caetun pki issue)"
            )
    for peer in settings.peer:
        if not peer.certificate_name:
            raise ConfigurationError(
                "--peer: a public key is given, but --security tls knows names: give cn:NAME, as in the certificate"
            )
    if not settings.peer and not _takes_guests(settings):
        raise ConfigurationError("--peer: none given: name the far end's certificate: --peer cn:NAME")
    names = [peer.certificate_name for peer in settings.peer]
    if len(set(names)) < len(names):
        raise ConfigurationError("--peer: one certificate is named twice: leave one away")


def _check_switch(settings: Settings) -> None:
    """Several peers are joined by a switch, which takes Ethernet, or a router, which takes IP."""
    if len(settings.peer) > 1 and settings.connect:
        raise ConfigurationError(
            "--connect: given with several peers: a hub waits for them (--listen), each of them calls the hub"
        )
    if settings.mode is Mode.TUN:
        for option in OPTIONS.values():
            if option.group == "switch" and getattr(settings, option.name) != option.default:
                raise ConfigurationError(f"{option.flag}: there is no switch with --mode tun: use --mode tap")
        _check_router(settings)
    elif settings.mesh:
        raise ConfigurationError("--mesh: joins routers in this version: use --mode tun, or leave it away")
    elif any(peer.port.networks for peer in settings.peer):
        raise ConfigurationError("--peer: allowed= is for a router: use --mode tun, or leave it away")
    if len(settings.peer) > 1 and settings.peer_psk_file is not None:
        raise ConfigurationError("--peer-psk-file: given with several peers, who must not share one: leave it away")
    vlans = [each.vlan for each in settings.vlan]
    if len(set(vlans)) < len(vlans):
        raise ConfigurationError("--vlan: one VLAN is given twice: leave one away")
    try:
        querier_addresses(settings.querier_address)
    except ValueError as error:
        raise ConfigurationError(f"--querier-address: {error}") from None
    names = [peer.port.name for peer in settings.peer if peer.port.name]
    if len(set(names)) < len(names):
        raise ConfigurationError("--peer: two peers have one name: give each its own")


def _check_router(settings: Settings) -> None:
    """Each address leads to one peer, and each of several peers has some."""
    if settings.mesh and settings.security == "tls":
        raise ConfigurationError("--mesh: knows its members by public keys, not certificates: use --key and --peer")
    if settings.mesh and settings.auth and "key" not in settings.auth:
        raise ConfigurationError("--mesh: knows its members beforehand: put key first in --auth, or leave it away")
    if settings.mesh and not settings.peer:
        raise ConfigurationError("--mesh: given with --secret-file, which two ends share: use --key and --peer")
    if settings.mesh and settings.negotiation == "server":
        raise ConfigurationError("--mesh: does not go with --negotiation server in this version: give --address")
    if settings.mesh and settings.connect and not settings.address:
        raise ConfigurationError("--mesh: a member's own address must be known: give --address")
    owner: dict[object, str] = {ip_network(each.ip): "this host" for each in settings.address}
    for number, peer in enumerate(settings.peer, 1):
        name = peer.port.name or f"peer {number}"
        if peer.port.words:
            word = peer.port.words[0][0]
            raise ConfigurationError(f"--peer: {name}: {word!r} is for a switch: use --mode tap, or leave it away")
        if len(settings.peer) > 1 and not peer.port.networks and not settings.pool_network:
            raise ConfigurationError(
                f"--peer: {name}: none of its addresses are given, and --mode tun sends by address: add to its key, "
                "for example, ,allowed=10.88.0.2 with everything that is behind it: ,allowed=10.88.0.2+10.1.0.0/24"
            )
        for network in peer.port.networks:
            if network in owner:
                raise ConfigurationError(
                    f"--peer: {name}: {network} leads to {owner[network]} already: give it to one of them"
                )
            owner[network] = name


def _check_outer(settings: Settings) -> None:
    """What is said about TLS goes together, and is of use."""
    if (settings.tls_cert is None) != (settings.tls_key is None):
        given, missing = ("--tls-cert", "--tls-key") if settings.tls_cert else ("--tls-key", "--tls-cert")
        raise ConfigurationError(f"{given}: given without {missing}: a certificate is shown with its key, give both")
    if settings.tls_verify == "off" and (settings.tls_pin or settings.tls_ca):
        raise ConfigurationError("--tls-verify: off, but --tls-pin or --tls-ca says what to accept: leave one away")


def _merge(given: dict[str, Any], environment: dict[str, Any]) -> Settings:
    """Values from flags, then from the environment, then from the file these name, then defaults."""
    path: Path | None = given.get("config", environment.get("config"))
    file = {} if path is None else read_file(path)
    origins = dict.fromkeys(OPTIONS, Origin.DEFAULT)
    origins.update(dict.fromkeys(file, Origin.FILE))
    origins.update(dict.fromkeys(environment, Origin.ENVIRONMENT))
    origins.update(dict.fromkeys(given, Origin.FLAG))
    settings = Settings(**{**file, **environment, **given}, origins=origins)
    places: dict[str, Any] = {
        name: with_schemes(getattr(settings, name), settings.transport) for name in ("listen", "connect", "public")
    }
    return dataclasses.replace(settings, **places, peer=_with_defaults(settings))


def _with_defaults(settings: Settings) -> tuple[PeerRef, ...]:
    """Peers, with what is said of all ports and not otherwise of theirs. Raises ConfigurationError."""
    peers: list[PeerRef] = []
    for peer in settings.peer if settings.port_defaults.words else ():
        try:
            port = peer.port.over(settings.port_defaults)
            port.settings("port")
        except ValueError as error:
            raise ConfigurationError(f"--port-defaults, with --peer {peer.port}: {error}") from None
        peers.append(peer._replace(port=port))
    return tuple(peers) or settings.peer


def with_schemes(endpoints: Iterable[Endpoint], transports: Sequence[str]) -> tuple[Endpoint, ...]:
    """Endpoints that name no transport stand for one by each, the best transport of all of them first."""
    given: list[Endpoint] = []
    for named, group in groupby(endpoints, key=lambda endpoint: bool(endpoint.scheme)):
        several = list(group)
        given += several if named else [each._replace(scheme=name) for name in transports for each in several]
    return tuple(given)


def _suggestion(word: str, known: Mapping[str, object]) -> str:
    tables = {key.partition("-")[0] for key in known}
    near = difflib.get_close_matches(word.replace("_", "-"), [*known, *sorted(tables - known.keys())], n=1)
    return f"did you mean {near[0]}?" if near else "see docs/configuration.md for those there are"
