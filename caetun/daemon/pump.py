"""Moves batches between descriptors and the core: the only place where the loop, the clock and the node meet.

Outbound:  device readable -> Device.read_batch -> Node.device_received -> Link.send
Inbound:   Arrivals.records -> Node.records_received -> Device.write_batch

One reader callback a descriptor, one timer, no task and no queue. A link that is full for a moment pauses the device;
if it stays full, the device is read on, and what waits for that peer is put in order by its backlog
(`session/backlog.py`): the device's own queue is deep, drops at its tail, and keeps a ping behind everybody's bulk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from caetun.daemon.shell import Shell, Totals
from caetun.devices.base import Device
from caetun.errors import DeviceError
from caetun.node import Node
from caetun.peers import Output, Peer
from caetun.transports.base import Link
from caetun.types import DropReason, Drops, Iovec
from caetun.wire.container import Batch
from caetun.wire.record import Record

if TYPE_CHECKING:
    from caetun.daemon.turns import Turns

# chosen by us
MIN_SLEEP: Final = 0.001
"""Seconds at least between two looks: a deadline that does not move must not spin."""
LONG_TICK: Final = 0.001
REST: Final = 20
"""A look at all deadlines that took more seconds is followed by a rest of so many times its length: strangers' messages
must not make a hub of hundreds do nothing else."""
HOLD_SECONDS: Final = 0.002
"""A fast link is full for less than that, time and again; a slow one takes no more than a superframe meanwhile."""
QUIET_SECONDS: Final = 0.001
"""Between two bursts: more than this, and an answer from the host is worth a look at once."""
TURN_SECONDS: Final = 0.001
"""For which records that have waited are opened before the sockets are looked at again."""
WASTE_SECONDS: Final = 0.005
"""Until the next look at what waits, if nothing waits but what a storm has brought."""
MAX_SLEEP: Final = 0.25
"""Seconds between looks at the node's deadlines: traffic may move them without re-arming the timer for each batch, and
a link that went silent is to be doubted half a second later."""


class Pump:
    """Fulfils `transports.base.Arrivals`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, node: Node, device: Device, shell: Shell, batch: Batch) -> None:
        self.loop = loop
        self._node = node
        self._device = device
        self._shell = shell
        self._batch = batch
        self._out = Output()
        self._is_reading = False
        self._stopped = False
        self._hold: asyncio.TimerHandle | None = None
        """While the device is not read because a link is full."""
        self._draining = False
        self._burst_ended_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._turns = None if node.board is None else _make_turns(node.drops)
        """Of a hub: far ends take turns."""
        self._turn: asyncio.Handle | None = None
        self._rested_at = 0.0
        """Until then deadlines are not looked at: with hundreds of peers that takes a while."""
        self.totals = Totals()

    def start(self) -> None:
        """Begin to read the device."""
        self._reading(True)
        self.wake()

    def stop(self) -> None:
        """Read the device no more, and say goodbye to the far ends."""
        self._stopped = True
        self._reading(False)
        for timer in (self._timer, self._hold, self._turn):
            if timer is not None:
                timer.cancel()
        self._node.close(time.monotonic(), self._out)
        self._flush()

    def _reading(self, wanted: bool) -> None:
        if wanted == self._is_reading:
            return
        self._is_reading = wanted
        if wanted:
            self.loop.add_reader(self._device.fileno(), self._device_readable)
        else:
            self.loop.remove_reader(self._device.fileno())

    def wake(self) -> None:
        """Let the node look at its deadlines now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tick()

    # outbound

    def _device_readable(self) -> None:
        """Hot: once a batch."""
        batch = self._batch
        batch.clear()
        try:
            self._device.read_batch(batch)
        except DeviceError as error:
            self._reading(False)
            self._shell.failed(error)
            return
        if not batch.starts:
            return
        totals = self.totals
        totals.frames_out += len(batch.starts)
        totals.bytes_out += batch.end
        self._node.device_received(batch, time.monotonic(), self._out)
        self._flush()

    # inbound: what endpoints call

    def records(self, link: Link, records: list[Record]) -> None:
        """Records have come in. Hot: once a burst."""
        if self._turns is not None:
            self._records_in_turn(self._turns, link, records)
            return
        self._open(link, records, time.monotonic())

    def _records_in_turn(self, turns: Turns, link: Link, records: list[Record]) -> None:
        """The same for a hub, where a link that has had more than its share waits for the others."""
        began = time.monotonic()
        at_once = turns.admit(link, records, began)
        if at_once:
            self._open_charged(turns, link, at_once, began)
        if turns and self._turn is None:
            self._turn = self.loop.call_soon(self._take_turns, turns)

    def _take_turns(self, turns: Turns) -> None:
        """Open some of what waits, then see what has come in meanwhile."""
        self._turn = None
        began = now = time.monotonic()
        chosen = turns.next(now)
        while chosen is not None:
            link, records = chosen
            now = self._open_charged(turns, link, records, now)
            if now - began > TURN_SECONDS:
                break
            chosen = turns.next(now)
        self._node.burst_end(now, self._out)
        self._flush()
        if turns and not self._stopped:
            later = self.loop.call_soon if chosen is not None else partial(self.loop.call_later, WASTE_SECONDS)
            self._turn = later(self._take_turns, turns)

    def _open_charged(self, turns: Turns, link: Link, records: Sequence[Record], began: float) -> float:
        """Open records at the expense of their link; returns the time after that."""
        drops = self._node.drops
        thrown_away = drops[DropReason.BRIDGE_STORM]
        self._open(link, records, began)
        now = time.monotonic()
        turns.charge(link, now - began, drops[DropReason.BRIDGE_STORM] != thrown_away, now)
        return now

    def _open(self, link: Link, records: Sequence[Record], now: float) -> None:
        """Have the core open records, and carry out what follows."""
        out = self._out
        totals = self.totals
        totals.records_in += len(records)
        for record in records:
            totals.bytes_in += len(record.body)
        self._node.records_received(link, records, now, out)
        if out.frames:
            self._write(out.frames)
        if out.records or out.probes or out.events or out.said or out.moved:
            self._flush()

    def messages(self, link: Link, messages: list[bytes]) -> None:
        """Handshake messages, or garbage, have come in."""
        self._node.messages_received(link, messages, time.monotonic(), time.time(), self._out)
        self._flush()

    def burst_end(self) -> bool:
        """Nothing more is waiting from the network; returns whether records wait here, see `Turns`."""
        out = self._out
        now = time.monotonic()
        self._node.burst_end(now, out)
        if out.frames or out.records:
            self._flush()
        quiet = now - self._burst_ended_at > QUIET_SECONDS
        self._burst_ended_at = now
        if quiet and self._is_reading:
            # The host answers some frames (ICMP, ARP, TCP) while they are written: no need to wait to be told.
            self._device_readable()
        return bool(self._turns)

    def crowded(self, link: Link) -> bool:
        """Whether what a link brings now is not worth a look."""
        return self._turns is not None and self._turns.crowded(link, time.monotonic())

    def drained(self) -> None:
        """A link that was full takes more: first what has waited, then the device again."""
        if self._stopped:
            return
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        self._draining = True
        while self._node.send_waiting(time.monotonic(), self._out):
            self._flush()
        self._draining = False
        self._reading(True)

    def _hold_device(self) -> None:
        """A link is full: wait a moment before what comes is put into its backlog, which costs a copy."""
        self._reading(False)
        self._hold = self.loop.call_later(HOLD_SECONDS, self._held)

    def _held(self) -> None:
        self._hold = None
        if not self._stopped:
            self._reading(True)

    def too_big(self, link: Link, datagram: int) -> None:
        """The local kernel refused a datagram: sent from within `_flush`, so handled after it."""
        self.loop.call_soon(self._too_big, link, datagram)

    def _too_big(self, link: Link, datagram: int) -> None:
        self._node.too_big(link, datagram, time.monotonic(), self._out)
        self._flush()

    def closed(self, link: Link, why: str) -> None:
        """A link is gone."""
        self._shell.closed(link, why)
        if self._turns is not None:
            self._turns.forget(link)
        self._node.link_closed(link, time.monotonic(), self._out)
        self._flush()

    def offer(self, peer: Peer, link: Link, rank: int) -> None:
        """A link to a peer is up: the core may use it."""
        peer.offer(link, rank, time.monotonic(), self._out)
        self.wake()

    def withdraw(self, peer: Peer, link: Link) -> None:
        """A link to a peer is not to be used any more."""
        peer.withdraw(link, time.monotonic(), self._out)
        self.wake()

    def expel(self, peer: Peer, why: str) -> None:
        """A peer is not welcome any more: its session ends at once."""
        self._node.expel(peer, why, time.monotonic(), self._out)
        self._flush()

    def say(self, peer: Peer, kind: int, body: bytes) -> bool:
        """Send a peer a message on its control channel; False if there is nobody to say it to, or no room."""
        accepted = peer.say(kind, body, time.monotonic(), self._out)
        self._flush()
        self._arm()
        return accepted

    def remove(self, peer: Peer, why: str) -> None:
        """Forget a far end."""
        self._node.remove(peer, why, time.monotonic(), self._out)
        self._flush()

    def doubt(self, peer: Peer) -> None:
        """See whether the link to a peer still works: there is reason to think that it does not."""
        peer.network_changed(time.monotonic(), self._out)
        self.wake()

    def network_changed(self) -> None:
        """This host's addresses or routes are others now."""
        self._node.network_changed(time.monotonic(), self._out)
        self.wake()

    # both

    def _write(self, frames: list[Iovec]) -> None:
        totals = self.totals
        totals.frames_in += len(frames)
        self._device.write_batch(frames)
        frames.clear()

    def _flush(self) -> None:
        """Carry out what the node wants done."""
        out = self._out
        if out.frames:
            self._write(out.frames)
        for link, records in out.records:
            link.send(records)
            self.totals.records_out += len(records)
            if link.full and self._is_reading and not self._draining:
                self._hold_device()
        if (
            out.messages
            or out.probes
            or out.events
            or out.settled
            or out.moved
            or out.seek
            or out.unanswered
            or out.unused
            or out.said
        ):
            self._flush_rare(out)
            return
        out.records.clear()

    def _flush_rare(self, out: Output) -> None:
        for link, record in out.probes:
            link.probe(record)
            self.totals.records_out += 1
        for link, messages in out.messages:
            link.send_messages(messages)
        events, settled, seek = list(out.events), list(out.settled), list(out.seek)
        unanswered, unused, said = list(out.unanswered), list(out.unused), list(out.said)
        moved = bool(out.moved)
        out.clear()
        shell = self._shell
        for event in events:
            shell.report(event)
        for peer in settled:
            shell.settled(peer)
        if moved and not self._draining:
            self.drained()  # the link that was full is not the one in use any more
        for peer, link in unanswered:
            shell.unanswered(peer, link)
        for link in unused:
            shell.unused(link)
        for peer in seek:
            shell.seek(peer)
        for peer, kind, body in said:
            shell.said(peer, kind, body)
        self._arm()

    # time

    def _tick(self) -> None:
        self._timer = None
        began = time.thread_time()
        self._node.tick(time.monotonic(), time.time(), self._out)
        self._flush()
        if self._node.send_waiting(time.monotonic(), self._out):
            self._flush()  # the link in use is another one now, and has room
            self.drained()
        self._rested_at = 0.0
        self._arm()
        spent = time.thread_time() - began
        if spent > LONG_TICK:
            self._rested_at = time.monotonic() + spent * REST

    def _arm(self) -> None:
        now = time.monotonic()
        if now < self._rested_at:
            if self._timer is not None and self._timer.when() <= self.loop.time() + self._rested_at - now:
                return
            delay = self._rested_at - now
        else:
            due = self._node.next_deadline()
            delay = MAX_SLEEP if due is None else min(MAX_SLEEP, max(MIN_SLEEP, due - now))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(delay, self._tick)


def _make_turns(drops: Drops) -> Turns:
    # Imported here: of two ends nobody takes turns.
    from caetun.daemon.turns import Turns

    return Turns(drops)
