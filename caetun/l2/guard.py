"""Who may say what at a port: source guard, DHCP-server guard, RA guard. A port without a guard pays nothing.

| frame of a guarded port                                    | passes if                                              |
|------------------------------------------------------------|--------------------------------------------------------|
| IP hidden in LLC/SNAP or behind too many tags; version that is not the type's | never                               |
| message of a DHCP server                                   | servers may be here                                    |
| router advertisement, redirect                             | routers may be here                                    |
| malformed ARP, IP header or neighbour discovery            | never: hosts would not take it                         |
| ARP; neighbour discovery                                   | its inner sender is its outer one, and has that address |
| IPv4, IPv6                                                 | its sender has that address                            |
| from 0.0.0.0: UDP, IGMP, ARP probe; from ::: ICMPv6        | its MAC address is nobody else's                       |
| anything else                                              | the same; with `STATIC` it must be allowed             |

To have an address: the user has allowed it, a DHCP server has given it, or (`LEARN`; in any mode but `STATIC` for
link-local ones, which no server gives) it was used first here, by ARP, neighbour discovery or plain traffic (RFC 6620,
section 3.2: a host that the guard finds at work has asked for its address long ago). VLAN tags do not make another
network of one VLAN: hosts take a frame with priority tags for one without (VU#855201).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from math import inf
from typing import Final, NamedTuple, TypeAlias

from caetun.errors import Malformed
from caetun.l2.bindings import Binding, Bindings, Claim
from caetun.l2.outcome import Emission, Notice
from caetun.l2.policy import Allowed, GuardSettings, PortPolicy, Source
from caetun.types import Buffer, DropReason, Drops
from caetun.wire import arp, dhcp, nd
from caetun.wire.ethernet import TPID_8021AD, TPID_8021Q, TYPE_IPV4, TYPE_IPV6, network_header
from caetun.wire.ip import IPV4, IPV6, TCP, UDP, Packet, outline
from caetun.wire.membership import PROTOCOL_IGMP

# fixed by the specification
_NETWORK_TYPES: Final = frozenset((TYPE_IPV4, TYPE_IPV6, arp.TYPE_ARP, TPID_8021Q, TPID_8021AD))
_LEAST_TYPE: Final = 0x0600
_SNAP: Final = (bytes.fromhex("aaaa03000000"), bytes.fromhex("aaaa030000f8"))
"""LLC and SNAP headers before an EtherType (RFC 1042; IEEE 802.1H)."""
_DHCP_PORTS: Final = frozenset(
    port.to_bytes(2, "big") for port in (dhcp.SERVER4, dhcp.CLIENT4, dhcp.SERVER6, dhcp.CLIENT6)
)
_NOWHERE: Final = frozenset((bytes(4), bytes(16)))

# chosen by us
TELL_SECONDS: Final = 60.0
"""People hear of one kind of refusal at one port so often; counters have them all."""


class _By(NamedTuple):
    """Who sends a frame, and when."""

    port: int
    vlan: int
    mac: bytes
    now: float


Where: TypeAlias = Callable[[int, Buffer, float], int | None]
"""(VLAN, MAC address, now) -> the port it is behind: `Fdb.lookup`."""


class Guard:
    """The guards of all ports of one bridge."""

    def __init__(
        self,
        address: bytes,
        drops: Drops,
        where: Where,
        emit: Callable[[Emission], bool],
        tell: Callable[[Notice], None],
    ) -> None:
        """`address`: the bridge's own, 6 bytes, from which it asks whether an address is still in use."""
        self._address, self._drops, self._where = address, drops, where
        self._emit, self._tell = emit, tell
        self._ports: dict[int, PortPolicy] = {}
        self._fixed: dict[bytes, set[int]] = {}
        """MAC or IP address -> the ports the user has bound it to: no other port learns it."""
        self._leasing = False
        """Whether some port goes by what DHCP servers give away."""
        self.bindings = Bindings()

    # ports

    def add_port(self, number: int, name: str, settings: GuardSettings) -> None:
        """A port comes up (again)."""
        self.remove_port(number)
        self._ports[number] = PortPolicy(name, settings)
        if settings.source is not Source.ANY:
            self.bindings.limit_port(number, settings.limit)
        self._changed()

    def remove_port(self, number: int) -> None:
        """A port goes down: what was learned there is forgotten."""
        if self._ports.pop(number, None) is not None:
            self.bindings.forget_port(number)
            self._changed()

    def _changed(self) -> None:
        self._leasing = any(port.settings.leases for port in self._ports.values())
        self._fixed.clear()
        for number, port in self._ports.items():
            for mac, address in port.exact if port.settings.source is not Source.ANY else ():
                for each in (mac, address):
                    if each is not None:
                        self._fixed.setdefault(each, set()).add(number)

    def concerns(self, number: int) -> bool:
        """Whether frames of a port have to be shown to `admits`: it is guarded, or a DHCP server may be there."""
        settings = self._ports[number].settings
        return settings.active or (self._leasing and settings.dhcp_server)

    def allowed(self) -> Iterator[tuple[int, Allowed]]:
        """(port, sender) of all that the user has bound."""
        for number, port in sorted(self._ports.items()):
            for each in port.settings.allowed:
                yield number, each

    # the judgement, once a frame of such a port

    def admits(self, number: int, vlan: int, frame: Buffer, now: float) -> bool:
        """Whether a frame may go on; counts and tells if not. `frame`: at least 14 bytes."""
        port = self._ports[number]
        mac, plain = bytes(frame[6:12]), _plain_sender(frame)
        if plain is not None and (
            port.settings.source is Source.ANY
            or self.bindings.holds(number, vlan, mac, plain, now)
            or port.allows(mac, plain)
        ):
            return True
        by = _By(number, vlan, mac, now)
        if not port.settings.active:
            with suppress(Malformed):  # what cannot be read gives nothing away, and is not refused here
                self._overhear(by, frame)
            return True
        try:
            reason = self._judge(by, port, frame)
        except Malformed as bad:
            reason = bad.reason
        if reason is not None:
            self._refused(by, port, reason)
            return False
        return frame[:6] != self._address  # an answer to a question of ours

    def _judge(self, by: _By, port: PortPolicy, frame: Buffer) -> DropReason | None:
        ethertype, at = network_header(frame)
        if ethertype in (TYPE_IPV4, TYPE_IPV6):
            packet = outline(frame, at)
            if (packet.version == IPV4) != (ethertype == TYPE_IPV4):
                return DropReason.GUARD_HIDDEN
            return self._ip(by, port, frame, at, packet)
        if ethertype == arp.TYPE_ARP:
            return self._arp(by, port, arp.decode(frame, at))
        if ethertype in _NETWORK_TYPES or (ethertype < _LEAST_TYPE and _wrapped(frame, at)):
            return DropReason.GUARD_HIDDEN
        return self._mac(by, port)

    def _ip(self, by: _By, port: PortPolicy, frame: Buffer, at: int, packet: Packet) -> DropReason | None:
        settings = port.settings
        if packet.protocol == UDP and (self._leasing or not settings.dhcp_server) and dhcp.from_server(frame, packet):
            if not settings.dhcp_server:
                return DropReason.GUARD_DHCP
            self._given(by, frame, packet)
        if packet.version == IPV6 and packet.protocol == nd.ICMPV6:
            kind = nd.kind(frame, packet)
            if kind is None:
                return DropReason.GUARD_HIDDEN
            if kind in nd.TYPES:
                return self._discovery(by, port, nd.decode(frame, at, packet))
        address = bytes(frame[at + 12 : at + 16] if packet.version == IPV4 else frame[at + 8 : at + 24])
        if address not in _NOWHERE:
            return self._sender(by, port, address)
        usual = (UDP, PROTOCOL_IGMP) if packet.version == IPV4 else (nd.ICMPV6,)
        if settings.source is not Source.ANY and packet.protocol not in usual:
            return DropReason.GUARD_SOURCE
        return self._mac(by, port)

    def _arp(self, by: _By, port: PortPolicy, message: arp.Arp | None) -> DropReason | None:
        if message is None or port.settings.source is Source.ANY:
            return self._mac(by, port)
        if message.sender_mac != by.mac:
            return DropReason.GUARD_SENDER
        return self._mac(by, port) if message.probe else self._sender(by, port, message.sender)

    def _discovery(self, by: _By, port: PortPolicy, message: nd.Discovery | None) -> DropReason | None:
        assert message is not None
        if isinstance(message, nd.RouterAdvertisement | nd.Redirect) and not port.settings.router:
            return DropReason.GUARD_ROUTER
        if port.settings.source is Source.ANY:
            return None
        if not isinstance(message, nd.Redirect) and message.link_address not in (None, by.mac):
            return DropReason.GUARD_SENDER
        if message.source in _NOWHERE:
            return self._mac(by, port)
        reason = self._sender(by, port, message.source)
        if reason is None and isinstance(message, nd.Advertisement) and message.target != message.source:
            reason = self._sender(by, port, message.target)
        return reason

    # whose an address is

    def _sender(self, by: _By, port: PortPolicy, address: bytes) -> DropReason | None:
        source = port.settings.source
        if source is Source.ANY or self.bindings.holds(by.port, by.vlan, by.mac, address, by.now):
            return None
        if port.allows(by.mac, address):
            return None
        if source is Source.STATIC:
            return DropReason.GUARD_SOURCE
        if self._bound_elsewhere(by.port, by.mac) or self._bound_elsewhere(by.port, address):
            return DropReason.GUARD_CLAIMED
        learn = source is Source.LEARN or _link_local(address)
        claim = self.bindings.claim(by[:3], address, by.now, learn)
        return self._outcome(by, port, claim, address)

    def _mac(self, by: _By, port: PortPolicy) -> DropReason | None:
        """Who sends without an IP address must not be another."""
        match port.settings.source:
            case Source.ANY:
                return None
            case Source.STATIC:
                return None if port.allows_mac(by.mac) else DropReason.GUARD_SOURCE
        if self._bound_elsewhere(by.port, by.mac):
            return DropReason.GUARD_CLAIMED
        return self._outcome(by, port, self.bindings.claim_mac(by[:3], by.now), None)

    def _bound_elsewhere(self, number: int, address: bytes) -> bool:
        ports = self._fixed.get(address)
        return ports is not None and number not in ports

    def _outcome(self, by: _By, port: PortPolicy, claim: Claim, address: bytes | None) -> DropReason | None:
        match claim:
            case Claim.BOUND | Claim.NEW | Claim.MOVED:
                return None
            case Claim.FULL:
                return DropReason.GUARD_FULL
            case Claim.UNKNOWN:
                return DropReason.GUARD_SOURCE
        owner = self.bindings.owner(by.vlan, by.mac)
        if (owner is None or owner.port == by.port) and address is not None:
            owner = self.bindings.find(by.vlan, address)
        assert owner is not None
        if claim is Claim.ASK:
            self._ask(owner)
        else:
            self._tell_claim(by, port, owner)
        return DropReason.GUARD_CLAIMED

    def _ask(self, owner: Binding) -> None:
        """Is he still there? By a probe, which leaves no trace with whoever hears it."""
        make = arp.probe if len(owner.address) == 4 else nd.probe
        self._emit(Emission(owner.port, owner.vlan, make(self._address, owner.address, owner.mac)))

    # what DHCP servers give away

    def _overhear(self, by: _By, frame: Buffer) -> None:
        ethertype, at = network_header(frame)
        if ethertype in (TYPE_IPV4, TYPE_IPV6):
            packet = outline(frame, at)
            if packet.protocol == UDP:
                self._given(by, frame, packet)

    def _given(self, by: _By, frame: Buffer, packet: Packet) -> None:
        for lease in dhcp.leases(frame, packet):
            mac = bytes(frame[:6]) if lease.hardware is None else lease.hardware
            number = self._where(by.vlan, mac, by.now)
            port = None if number is None else self._ports.get(number)
            if number is None or port is None or not port.settings.leases:
                continue
            until = inf if lease.seconds == dhcp.FOREVER else by.now + lease.seconds
            if not self.bindings.lease((number, by.vlan, mac), lease.address, until, by.now):
                self._refused(_By(number, by.vlan, mac, by.now), port, DropReason.GUARD_FULL)

    # for people

    def _refused(self, by: _By, port: PortPolicy, reason: DropReason) -> None:
        self._drops.count(reason)
        words = _WORDS.get(reason)
        if words is not None and self._worth_telling(by, port, reason):
            text = words.format(name=port.name, mac=by.mac.hex(":"), limit=port.settings.limit)
            self._tell(Notice("warning", str(reason), text))

    def _tell_claim(self, by: _By, port: PortPolicy, owner: Binding) -> None:
        if owner.seen_at > owner.asked_at and self._worth_telling(by, port, DropReason.GUARD_CLAIMED):
            at = self._ports[owner.port].name if owner.port in self._ports else str(owner.port)
            text = (
                f"{ip_address(owner.address)} belongs to {owner.mac.hex(':')} at {at}, who is there: "
                f"not to {by.mac.hex(':')} at {port.name}"
            )
            self._tell(Notice("warning", str(DropReason.GUARD_CLAIMED), text))

    def _worth_telling(self, by: _By, port: PortPolicy, reason: DropReason) -> bool:
        if by.now - port.told.get(reason, -inf) < TELL_SECONDS:
            return False
        port.told[reason] = by.now
        return True


_WORDS: Final = {
    DropReason.GUARD_SOURCE: "{mac} at {name} uses an address nobody has given it: refused",
    DropReason.GUARD_SENDER: "{mac} at {name} speaks in another's name in ARP or neighbour discovery: refused",
    DropReason.GUARD_FULL: "{name} has {limit} addresses already: {mac} gets no more (see its limit)",
    DropReason.GUARD_DHCP: "{mac} at {name} plays the DHCP server: refused",
    DropReason.GUARD_ROUTER: "{mac} at {name} plays the IPv6 router: refused",
    DropReason.GUARD_HIDDEN: "{mac} at {name} hides packets from the guard: refused",
}


def _plain_sender(frame: Buffer) -> bytes | None:
    """Who sends a packet that has nothing to look into: no tags, options or extensions, no DHCP, ICMPv6 or ARP.

    What most frames are. Hot: once a frame of a guarded port.
    """
    head = bytes(frame[12:58])
    if len(head) < 26:
        return None
    if head[:3] == b"\x08\0\x45":
        return head[14:18] if head[11] != UDP or head[24:26] not in _DHCP_PORTS else None
    if head[:2] == b"\x86\xdd" and head[2] >> 4 == IPV6 and len(head) == 46:
        return head[10:26] if head[8] == TCP or (head[8] == UDP and head[44:46] not in _DHCP_PORTS) else None
    return None


def _link_local(address: bytes) -> bool:
    """RFC 4291, section 2.5.6; RFC 3927."""
    if len(address) == 4:
        return address[:2] == b"\xa9\xfe"
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def _wrapped(frame: Buffer, at: int) -> bool:
    """Whether an LLC frame carries what has an EtherType of its own, which some hosts take for the same."""
    head = bytes(frame[at : at + 8])
    return head[:6] in _SNAP and int.from_bytes(head[6:], "big") in _NETWORK_TYPES
