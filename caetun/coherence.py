"""Whether the values of `Settings` go together, before anything is looked up or opened.

A function an area: keys, authentication, outer TLS, switch, router, gateway. Each raises ConfigurationError: which
option, why, and what to do.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Final

from caetun.agreement import check_agreement
from caetun.errors import ConfigurationError
from caetun.settings import OPTIONS, Settings
from caetun.types import Mode
from caetun.vlans import querier_addresses

# fixed by the specification
_IPV6_MIN_MTU: Final = 1280
"""Bytes (RFC 8200 section 5): Linux takes IPv6 off an interface with a smaller MTU."""


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
    _check_mesh(settings)
    _check_gateway(settings)
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


def _check_mesh(settings: Settings) -> None:
    """A hub knows its members by their keys, and may let them have ways past it."""
    if not settings.mesh:
        return
    if settings.security == "tls":
        raise ConfigurationError("--mesh: knows its members by public keys, not certificates: use --key and --peer")
    if settings.auth and "key" not in settings.auth:
        raise ConfigurationError("--mesh: knows its members beforehand: put key first in --auth, or leave it away")
    if not settings.peer and not settings.enrols:
        raise ConfigurationError("--mesh: given with --secret-file, which two ends share: use --key and --peer")
    if settings.mode is Mode.TAP:
        return
    if settings.listen and settings.client_to_client != "on":
        raise ConfigurationError(
            f"--mesh: lets peers go past this hub, but --client-to-client {settings.client_to_client} is to keep them "
            "apart: leave one away"
        )
    if settings.connect and not settings.address and settings.negotiation != "server":
        raise ConfigurationError(
            "--mesh: a member's own address must be known: give --address, or have it assigned by --negotiation server"
        )


def _check_outer(settings: Settings) -> None:
    """What is said about TLS goes together, and is of use."""
    if (settings.tls_cert is None) != (settings.tls_key is None):
        given, missing = ("--tls-cert", "--tls-key") if settings.tls_cert else ("--tls-key", "--tls-cert")
        raise ConfigurationError(f"{given}: given without {missing}: a certificate is shown with its key, give both")
    if settings.tls_verify == "off" and (settings.tls_pin or settings.tls_ca):
        raise ConfigurationError("--tls-verify: off, but --tls-pin or --tls-ca says what to accept: leave one away")


def _check_gateway(settings: Settings) -> None:
    """All traffic goes where it can be led on, and what belongs to that is given with it."""
    if settings.gateway and not settings.connect:
        raise ConfigurationError(
            "--gateway: given without --connect: it is for the end that calls; --masquerade for a hub"
        )
    if not settings.gateway:
        for flag, given in (
            ("--kill-switch", settings.kill_switch),
            ("--no-gateway-lan", not settings.gateway_lan),
            ("--gateway-via", settings.gateway_via),
        ):
            if given:
                raise ConfigurationError(f"{flag}: given without --gateway, which it belongs to: give both")
    if settings.dns_domain and not settings.dns:
        raise ConfigurationError("--dns-domain: given without --dns: say who is to be asked")
    if (
        settings.gateway
        and settings.mode is Mode.TAP
        and not (settings.gateway_via or settings.negotiation == "server")
    ):
        raise ConfigurationError(
            "--gateway: with --mode tap there may be many hosts: name the one that leads on by --gateway-via ADDRESS"
        )
    versions = [each.version for each in settings.gateway_via]
    if len(set(versions)) < len(versions):
        raise ConfigurationError("--gateway-via: two addresses of one IP version: give one each")
