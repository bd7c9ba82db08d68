"""The switch of a member of a mesh: to it all other members are one port, that of the hub; behind it, ways part.

| frame                                        | what becomes of it                                                    |
|----------------------------------------------|-----------------------------------------------------------------------|
| leaves by the hub's port, for a known host   | by the direct way to the member that has this host, if the way works  |
| leaves by the hub's port, any other          | to the hub, which floods it or knows better                           |
| comes from the hub, or directly              | as if it had come by the hub's port: never out of it again            |
| comes directly, for a group                  | dropped: groups are for the hub to flood                              |

So there is one path for each frame, whatever ways come and go. Floods run along the hub's star, which has no loop, and
reach everybody once; what is direct goes from one site to one other, and ends there (split horizon). Addresses are
learned at the hub's port: when a way dies there is nothing to learn anew.

The hub sees nothing of direct frames. So that it need not flood when a way dies, hosts that others send to directly are
shown to it now and then, by a frame from each to itself, which the hub learns from and sends nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from caetun.board import LOCAL, Parcel
from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.shortcuts import MAX_HOSTS, Shortcuts
from caetun.l2.switchboard import Switchboard
from caetun.types import Buffer, DropReason, Drops, Iovec
from caetun.wire.container import HEAD_SIZE, VNET_SIZE, Batch
from caetun.wire.mesh import Host
from caetun.wire.virtio_net import NO_OFFLOAD

HUB: Final = 1
"""The hub's port: a member has one peer in its settings."""

# fixed by the specification
_MAC_SIZE: Final = 6
_GROUP_BIT: Final = 1
_TPID: Final = b"\x81\x00"
_VLAN_MASK: Final = 0x0FFF
_EXPERIMENTAL: Final = b"\x88\xb5"
"""An EtherType that nobody's protocol has (IEEE 802, clause 9.2.3)."""
_LEAST: Final = 60
"""Bytes of an Ethernet frame without its FCS."""

# chosen by us
SHOW_SECONDS: Final = 100.0
"""Each host is shown to the hub so often: switches forget after 300 s, and two frames may be lost."""
SHOW_TURNS: Final = 10
"""Not all hosts at once, but in so many turns."""


class MemberSwitch(Switchboard):
    """Such a switch. Port `HUB` is the hub's, others but `LOCAL` are those of members, which the bridge never sees."""

    def __init__(self, bridge: Bridge, address: bytes, drops: Drops) -> None:
        """`address`: the source of frames of our own, 6 bytes."""
        super().__init__(bridge, address)
        self._drops = drops
        self.shortcuts = Shortcuts(drops)
        self._hub_up = False
        self._open = False
        """Whether the bridge has the hub's port: while there is any way into the mesh."""
        self._settings = PortSettings("hub")
        self._here: dict[bytes, None] = {}
        """Hosts of ours that others are told of; in the order in which they came, so that those told are kept."""
        self._named: list[Host] = []
        """The same, as members are told of them."""
        self._looked: object = None
        self._show_at = 0.0
        self._turn = 0

    # hot

    def outbound(self, batch: Batch, now: float) -> list[Parcel]:
        """Frames that the host sends. Hot: once a batch; two look-ups a frame."""
        parcels = super().outbound(batch, now)
        if not self.shortcuts.ways and self._hub_up:
            return parcels
        return [part for parcel in parcels for part in self._parted(parcel.batch)]

    def inbound(self, port: int, frames: Sequence[Iovec], now: float) -> tuple[list[Iovec], list[Parcel]]:
        """Frames that the hub or a member sent: what the host gets. Hot: once a burst."""
        if port == HUB:
            if self.shortcuts.ways:
                self._watch(frames, now)
        else:
            frames = self._direct(port, frames)
        return super().inbound(HUB, frames, now)

    def _parted(self, batch: Batch) -> list[Parcel]:
        """What goes to the hub's port, by ways."""
        ways, view, aware = self.shortcuts.ways, batch.view, self.bridge.ports.aware
        if aware:
            ports = [ways.get(_host(view[start + HEAD_SIZE : stop], 0), HUB) for start, stop in batch.spans()]
        else:
            ports = [ways.get(bytes(view[at + HEAD_SIZE : at + HEAD_SIZE + _MAC_SIZE]), HUB) for at in batch.starts]
        first = ports[0]
        if (first != HUB or self._hub_up) and ports.count(first) == len(ports):
            return [Parcel((first,), batch)]
        parts: list[Parcel] = []
        current: dict[int, Batch] = {}
        for (frame, header), port in zip(batch.frames(), ports, strict=True):
            if port == HUB and not self._hub_up:
                self._drops.count(DropReason.BRIDGE_PORT_DOWN)
                continue
            part = current.get(port)
            if part is None or part.full:
                part = current[port] = self.batches.lend()
                parts.append(Parcel((port,), part))
            part.append_parts(header, (frame,))
        return parts

    def _watch(self, frames: Sequence[Iovec], now: float) -> None:
        """See who sends by the hub though there is a direct way."""
        ways, here, shortcuts = self.shortcuts.ways, self._here, self.shortcuts
        aware = self.bridge.ports.aware
        for frame in frames:
            content = _content(frame)
            source = _host(content, _MAC_SIZE, aware)
            if source in ways and _host(content, 0, aware) in here:
                shortcuts.came_by_hub(source, now)

    def _direct(self, port: int, frames: Sequence[Iovec]) -> list[Iovec]:
        """What a member may send directly."""
        some = [frame for frame in frames if not _content(frame)[0] & _GROUP_BIT]
        if len(some) < len(frames):
            self._drops.count(DropReason.MESH_GROUP, len(frames) - len(some))
        if self.shortcuts.doubts:
            for frame in some:
                self.shortcuts.came_directly(port, _host(_content(frame), _MAC_SIZE, self.bridge.ports.aware))
        return some

    # ports

    def add_port(self, number: int, settings: PortSettings, now: float) -> None:
        """The hub, or a direct way to a member, has come up."""
        if number == HUB:
            self._settings, self._hub_up = settings, True
            if self._open:  # it was away, while members were there
                self.bridge.port_moved(HUB, now)
        else:
            self.shortcuts.up(number)
        if not self._open:
            self._open = True
            self.bridge.add_port(HUB, self._settings, now)

    def remove_port(self, number: int) -> None:
        """It has gone down."""
        if number == HUB:
            self._hub_up = False
        else:
            self.shortcuts.down(number)
        if self._open and not self._hub_up and not self.shortcuts.any_up:
            self._open = False
            self.bridge.remove_port(HUB)

    def port_moved(self, number: int, now: float) -> None:
        """It is reached by another link than before."""
        if number == HUB:
            self.bridge.port_moved(number, now)

    # what members are told, and say

    def introduce(self, port: int, name: str, prefixes: object) -> None:
        """A member has this port. Nothing leads there before it says who is behind it."""

    def suspect(self, number: int, suspect: bool) -> None:
        """Whether the direct way to a member does not answer: then the hub has what is for it."""
        self.shortcuts.suspect(number, suspect)

    def works(self, port: int) -> bool:
        """Whether frames go directly to a member."""
        return self.shortcuts.works(port)

    def avoided(self) -> list[int]:
        """Ports of members that have sent by the hub since this was last asked, though there is a direct way."""
        return self.shortcuts.avoided()

    def here(self) -> list[Host]:
        """Hosts of ours that members are told of, at most `MAX_HOSTS`. A walk through the FDB if that has changed, else
        the same list as before."""
        told = self._open and HUB not in self.bridge.muted  # whoever is sent to a muted port is not heard
        seen = self.bridge.fdb.version, told, self.bridge.ports.aware
        if seen != self._looked:
            self._looked = seen
            found = self._found() if told else {}
            kept = {host: None for host in self._here if host in found}
            for host in found:
                if len(kept) >= MAX_HOSTS:
                    break
                kept[host] = None
            self._here = kept
            self._named = [_named(host) for host in kept]
        return self._named

    def _found(self) -> dict[bytes, None]:
        """Everybody behind the device, in the form in which frames leave for the hub."""
        if not self.bridge.ports.aware:
            return {mac: None for _, mac in self.bridge.fdb.at(LOCAL)}
        vlans = self.bridge.ports.vlans(HUB)
        return {
            mac if vlan == vlans.native else vlan.to_bytes(2, "big") + mac: None
            for vlan, mac in self.bridge.fdb.at(LOCAL)
            if vlans.has(vlan)
        }

    def said(self, port: int, come: Sequence[Host], gone: Sequence[Host]) -> None:
        """A member has some hosts behind it, and others no more."""
        self.shortcuts.said(port, map(_key, come), map(_key, gone))

    def forget(self, port: int) -> None:
        """What a member has said is not so any more."""
        self.shortcuts.forget(port)

    # time

    def tick(self, now: float) -> tuple[list[Iovec], list[Parcel]]:
        """Frames of the switch's own that are due: for the host, and for the hub."""
        local, parcels = super().tick(now)
        if not self._hub_up:
            return local, []
        if self.shortcuts.any_up and now >= self._show_at:
            self._show_at = now + SHOW_SECONDS / SHOW_TURNS
            parcels += self._shown()
        return local, parcels

    def _shown(self) -> list[Parcel]:
        """Some of our hosts, for the hub to learn."""
        self.here()
        self._turn = (self._turn + 1) % SHOW_TURNS
        parcels: list[Parcel] = []
        for host in self._here:
            if host[-1] % SHOW_TURNS != self._turn or self.shortcuts.claimed(host):
                continue
            if not parcels or parcels[-1].batch.full:
                parcels.append(Parcel((HUB,), self.batches.lend()))
            parcels[-1].batch.append_parts(NO_OFFLOAD, (_to_itself(host),))
        return parcels

    def next_deadline(self) -> float | None:
        """When `tick` next has something to do."""
        due = super().next_deadline()
        if not self.shortcuts.any_up or not self._hub_up:
            return due
        return self._show_at if due is None else min(due, self._show_at)


def _content(frame: Iovec) -> Buffer:
    return frame[1] if len(frame[0]) == VNET_SIZE else memoryview(frame[0])[VNET_SIZE:]


def _host(frame: Buffer, at: int, aware: bool = True) -> bytes:
    """Whose address a frame (14 bytes at least) has at this place."""
    mac = bytes(frame[at : at + _MAC_SIZE])
    if not aware or frame[12] != _TPID[0] or frame[13] != _TPID[1] or len(frame) < 16:
        return mac
    vlan = (frame[14] << 8 | frame[15]) & _VLAN_MASK
    return vlan.to_bytes(2, "big") + mac if vlan else mac


def _key(host: Host) -> bytes:
    return host.vlan.to_bytes(2, "big") + host.mac if host.vlan else host.mac


def _named(key: bytes) -> Host:
    return Host(int.from_bytes(key[:-_MAC_SIZE], "big"), key[-_MAC_SIZE:])


def _to_itself(key: bytes) -> bytes:
    mac = key[-_MAC_SIZE:]
    tag = _TPID + key[:2] if len(key) > _MAC_SIZE else b""
    return (mac + mac + tag + _EXPERIMENTAL).ljust(_LEAST, b"\0")
