"""One QUIC connection: aioquic's, with a fast way past it for packets that hold one DATAGRAM frame.

Outbound:  Connection.send -> quic_packets.Sealer -> quic_recovery.Burst -> UdpEndpoint.send_burst
and inbound:  Connection.receive -> quic_packets.Opener -> packet window, ranges to acknowledge -> Owner.received

aioquic (1.7) does everything else: handshake, other frames, connection ids, paths, the timer. It has no public way to
share packet numbers, keys and acknowledgements, so this file and `quic_recovery` reach into it; the version is pinned,
and `tests/transports/test_quic_packets.py` holds the two ways against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Final

from aioquic.quic import events
from aioquic.quic.connection import (
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
)
from aioquic.tls import Epoch

from caetun.transports.mmsg import address_of, source_of
from caetun.transports.quic_keys import Keyring
from caetun.transports.quic_owner import Owner
from caetun.transports.quic_packets import (
    DATAGRAM,
    GAP,
    LONG_HEADER,
    MAX_PACKETS,
    Opened,
    apart,
    cid_of,
    joined,
    overhead,
)
from caetun.transports.quic_received import SIMPLE_ACK, Received, read_ack
from caetun.transports.quic_recovery import Burst, BurstRecovery
from caetun.transports.quic_words import words_for
from caetun.transports.udp_link import Elsewhere
from caetun.transports.udp_socket import MAX_BURST, Address
from caetun.types import Buffer, DropReason

if TYPE_CHECKING:
    from caetun.transports.udp_endpoint import UdpEndpoint

# chosen by us
KEEPALIVE_SECONDS: Final = 10.0
"""Without a packet from the far end before we ask for one: NAT forgets UDP after 30 s and less."""
IDLE_SECONDS: Final = 30.0
"""Without a packet from the far end before it is given up: three unanswered keepalives."""


class Connection:
    """A connection as client or server; `Owner` is told what happens on it."""

    def __init__(self, quic: QuicConnection, owner: Owner, udp: UdpEndpoint, address: Address) -> None:
        """`address`: where the far end is, as `mmsg.address_of` writes it."""
        self.quic = quic
        self.recovery = BurstRecovery(quic)
        self._owner = owner
        self._udp = udp
        self.address = address
        self._source = source_of(address)
        self._keys: Keyring | None = None
        """Once the handshake is over."""
        self._stirred = False
        """Whether aioquic may have something to send."""
        self._received = Received(quic)
        self.cids = {quic.host_cid}
        """Connection ids under which the far end may send."""
        self.over = False

    @property
    def overhead(self) -> int:
        """Bytes of a datagram that are not the message."""
        return overhead(len(self.quic._peer_cid.cid))

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._keys is not None and not self.over

    @property
    def _path(self) -> QuicNetworkPath:
        return self.quic._network_paths[0]

    def connect(self, now: float) -> None:
        """Begin the handshake, as client."""
        self.quic.connect(self.address, now)
        self.flush(now)

    def close(self, code: int, reason: str, now: float) -> None:
        """Tell the far end that we go. Nothing is reported afterwards."""
        if not self.over:
            self.over = True
            self.quic.close(error_code=code, reason_phrase=reason)
            self.flush(now)

    def resize(self, size: int) -> None:
        """Use datagrams of this many bytes."""
        self.quic._max_datagram_size = size
        self.recovery.use_datagrams(size)

    # outbound

    def send(self, messages: list[Buffer], now: float, probe: bool = False) -> list[Buffer]:
        """Send messages of equal size, the last maybe shorter, two parts each. Returns those that must wait. Hot.

        Try again when something has come in, or at `soon()`. `probe`: whatever the windows say; its loss means nothing.
        """
        quic, keys = self.quic, self._keys
        if keys is None or self.over:
            return messages
        keys.renew(now)
        if len(messages) == 2 and not probe and self._received.urgent(now) and self._send_with_ack(keys, messages, now):
            return []
        cid = quic._peer_cid.cid
        size = overhead(len(cid)) + len(messages[0]) + len(messages[1])
        at, total = 0, len(messages)
        while at < total:
            count = 1 if probe and self._path.is_validated else self._allowed(size, (total - at) // 2, now)
            if not count:
                break
            stop = at + 2 * count
            packets, _ = keys.sealer.seal(messages[at:stop], cid, quic._packet_number, quic._spin_bit)
            self._sent(packets, size, count, now, probe)
            at = stop
        return messages[at:]

    def _send_with_ack(self, keys: Keyring, messages: list[Buffer], now: float) -> bool:
        """One message, and in the same packet the acknowledgement that is due; False if there is no room for both."""
        quic, received = self.quic, self._received
        size = self.overhead + len(messages[0]) + len(messages[1]) + SIMPLE_ACK
        if self._stirred or size > quic._max_datagram_size or not self._allowed(size, 1, now):
            return False
        ack = received.simple_ack(now)
        if not ack:
            return False
        payload = b"".join((ack, bytes((DATAGRAM,)), *messages))
        packet = keys.sealer.seal_payload(payload, quic._peer_cid.cid, quic._packet_number, quic._spin_bit)
        received.acknowledged(now)
        self._sent(memoryview(packet), len(packet), 1, now, False)
        return True

    def _sent(self, packets: memoryview, size: int, count: int, now: float, probe: bool) -> None:
        """Packets leave: account for them."""
        quic, received, total = self.quic, self._received, len(packets)
        burst = Burst(quic._packet_number, count, size, total - (count - 1) * size, now, probe)
        self.recovery.burst_sent(burst, received.space)
        # What aioquic has to know of packets that are sent past it.
        quic._packet_number += count
        quic._network_paths[0].bytes_sent += total
        received.answered(now)
        self._udp.send_burst([packets], size, self._owner, count)

    def _allowed(self, size: int, wanted: int, now: float) -> int:
        """How many datagrams of `size` bytes may leave now, at most what one system call takes."""
        if self._udp.full:
            return 0
        most = min(wanted, MAX_PACKETS, max(1, MAX_BURST // size))
        return min(most, self.recovery.allowed(size, now, self._path, self._received.space))

    def flush(self, now: float) -> None:
        """Send what aioquic has."""
        self._stirred = False
        if not self.quic._network_paths:  # nothing authentic has come in
            return
        for data, address in self.quic.datagrams_to_send(now):
            way = self._owner if address == self.address else Elsewhere(address)
            self._udp.send_burst([data], len(data), way, 1)
        if not self.over:
            self._take_events(now)  # connection ids that are now known to the far end

    def settle(self, now: float) -> None:
        """Nothing more is waiting: acknowledge what came, send what became due."""
        received = self._received
        if received.urgent(now):
            ack = b"" if self._stirred else received.simple_ack(now)
            if ack:
                self._send_alone(ack)
            else:
                received.space.ack_at = now
                self._stirred = True
        if self._stirred:
            self.flush(now)
        received.acknowledged(now)

    def _send_alone(self, payload: bytes) -> None:
        """A packet that nobody waits for."""
        quic = self.quic
        assert self._keys is not None
        packet = self._keys.sealer.seal_payload(payload, quic._peer_cid.cid, quic._packet_number, quic._spin_bit)
        quic._packet_number += 1
        self._path.bytes_sent += len(packet)
        self._udp.send_burst([packet], len(packet), self._owner, 1)

    # inbound

    def receive(self, source: bytes, bursts: Sequence[tuple[memoryview, int]], now: float) -> None:
        """Take in datagrams, whatever they hold, as `udp_endpoint.Attached.receive`. Hot: once a wake-up and burst."""
        if self._keys is None or source != self._source:
            for packet in apart(bursts):
                self._slowly(packet, source, now)
        else:
            for view, size in joined(bursts):
                for at in range(0, len(view), MAX_PACKETS * size):
                    self._quickly(view[at : at + MAX_PACKETS * size], size, now)
        self._owner.delivered()

    def _quickly(self, view: memoryview, size: int, now: float) -> None:
        """Open short headers at once; what cannot be opened so goes to aioquic."""
        if self.over:
            return
        cid = cid_of(view)
        opened = None
        mine = cid in self.cids if self.quic._is_client else cid == self.quic.host_cid
        if self._keys is not None and mine:
            opened = self._keys.open(view, size, cid, self._received.space.expected_packet_number, now)
        if opened is not None:
            self._take(opened, view, size, now)
        elif len(view) > size:
            for packet in apart([(view, size)]):
                self._quickly(packet, size, now)
        else:
            self._singly(view, now)

    def _singly(self, packet: memoryview, now: float) -> None:
        """A packet that the fast way could not open."""
        if packet[0] & LONG_HEADER or cid_of(packet) in self.cids:
            self._slowly(packet, self._source, now)
        else:
            self._owner.stray(packet, self._source, now)

    def _take(self, opened: Opened, view: memoryview, size: int, now: float) -> None:
        """Deliver messages of authentic packets, and account for them as aioquic does for its own."""
        if not self._path.is_validated:
            self._path.bytes_received += len(view)
        numbers, length, start = opened.numbers, opened.size, 0
        if not opened.failed:
            self._deliver(numbers, opened.messages, length, now)
            self._received.spin(numbers[-1], opened.spin)
            return
        for failed in (*opened.failed, len(numbers)):
            if failed > start:
                self._deliver(numbers[start:failed], opened.run(start, failed), length, now)
            start = failed + 1
        others = dict(opened.others)
        for place in opened.failed:
            if self.over:
                return
            packet = view[place * size : (place + 1) * size]
            if place in others:
                self._other(others[place], cid_of(packet), numbers[place], now)
            else:
                self._singly(packet, now)

    def _deliver(self, numbers: Sequence[int], messages: memoryview, size: int, now: float) -> None:
        """Messages of packets with these numbers, unless they came before."""
        received = self._received
        if isinstance(numbers, range) and received.misses(numbers):
            received.mark(numbers, now, len(messages))
            self._owner.received(messages, size, now)
            return
        for place, number in enumerate(numbers):
            if number not in received:
                message = messages[place * size : (place + 1) * size - GAP]
                received.mark(range(number, number + 1), now, len(message))
                self._owner.received(message, size, now)

    def _other(self, payload: bytes, cid: bytes, number: int, now: float) -> None:
        """A packet that we could open holds more or else than a message: mostly an acknowledgement."""
        quic, received = self.quic, self._received
        if number in received or self._acknowledged(payload, number, now):
            return
        context = QuicReceiveContext(Epoch.ONE_RTT, cid, self._path, None, now, None)
        try:
            eliciting, _probing = quic._payload_received(context, payload)
        except QuicConnectionError as error:
            quic.close(error.error_code, error.frame_type, error.reason_phrase)
            eliciting = False
        except Exception:  # as in `_slowly`
            self._udp.drops.count(DropReason.QUIC_MALFORMED)
            eliciting = True
        received.mark(range(number, number + 1), now, len(payload) if eliciting else 0)
        self._stirred = True
        self._follow(now)

    def _acknowledged(self, payload: bytes, number: int, now: float) -> bool:
        """Take a packet that holds an acknowledgement, and maybe a message behind it; False if it is none such."""
        read = read_ack(payload)
        if read is None:
            return False
        ranges, delay, message = read
        space = self._received.space
        self._received.mark(range(number, number + 1), now, len(message))
        before = len(space.sent_packets)
        seconds = delay * 2**self.quic._remote_ack_delay_exponent / 1e6
        self.recovery.acknowledged(ranges, seconds, now, space)
        if len(space.sent_packets) != before:  # aioquic may have something to send again
            self._stirred = True
        if message:
            self._owner.received(message, len(message), now)
        return True

    def _slowly(self, packet: Buffer, source: bytes, now: float) -> None:
        """Give a datagram to aioquic."""
        if self.over:
            return
        address = self.address if source == self._source else address_of(source)
        before = self._received.space.largest_received_packet
        try:
            self.quic.receive_datagram(bytes(packet), address, now)
        except Exception:  # aioquic's decoders are not ours to prove: whatever they stumble over ends here
            self._udp.drops.count(DropReason.QUIC_MALFORMED)
            return
        self._stirred = True
        if self._received.space.largest_received_packet > before:
            self._received.marked_elsewhere(now)
        self._follow(now)

    # what happened

    def _follow(self, now: float) -> None:
        """See what aioquic has come to: its events, its keys, the far end's address, the end."""
        quic = self.quic
        self._take_events(now)
        if self.over:
            return
        if quic._close_event is not None:
            why = words_for(quic._close_event, quic._state is QuicConnectionState.DRAINING, IDLE_SECONDS)
            self.over = True
            self.flush(now)
            self._owner.ended(why)
            return
        if self._keys is not None:
            self._keys.renew(now)
        if quic._network_paths and self._path.addr != self.address:
            self._moved()

    def _take_events(self, now: float) -> None:
        while not self.over and (event := self.quic.next_event()) is not None:
            match event:
                case events.DatagramFrameReceived(data) if data:
                    self._owner.received(memoryview(data), len(data), now)
                case events.ConnectionIdIssued(cid):
                    self.cids.add(cid)
                    self._owner.known_as(cid, True)
                case events.ConnectionIdRetired(cid):
                    self.cids.discard(cid)
                    self._owner.known_as(cid, False)
                case events.HandshakeCompleted():
                    self._received.take_over(now)
                    self._keys = Keyring(self.quic)
                    self._owner.established(now)

    def _moved(self) -> None:
        """The far end is at another address."""
        before, self.address = self.address, self._path.addr
        self._source = source_of(self.address)
        if before[0] != self.address[0]:  # another port alone is a NAT that forgot (RFC 9000 section 9.4)
            self.recovery.new_path(self.quic._max_datagram_size)
        self._owner.moved()

    # time

    def soon(self) -> float:
        """When to call `tick` for what comes within milliseconds; infinity if there is no such thing. Cheap."""
        return inf if self.over else self.recovery.soon(self._received.space)

    def next_deadline(self) -> float | None:
        """When to call `tick` next, monotonic seconds; None if nothing is under way."""
        if self.over:
            return None
        if self._keys is not None:
            self._received.tell_idle()
        due = self.quic.get_timer()
        if self._keys is not None:
            asked = self._received.heard_at + KEEPALIVE_SECONDS
            due = asked if due is None else min(due, asked)
            if self.recovery.paced_at is not None:
                due = min(due, self.recovery.paced_at)
        return due

    def tick(self, now: float) -> None:
        """Do what is due."""
        quic = self.quic
        if self._keys is not None and now >= self._received.heard_at + KEEPALIVE_SECONDS:
            self._received.heard_at = now
            quic.send_ping(0)
            self._stirred = True
        if self._keys is not None:
            self.settle(now)  # what is due for us is not for aioquic any more
            self._received.tell_idle()
        due = quic.get_timer()
        if due is not None and now >= due:
            quic.handle_timer(now)
            self._stirred = True
        if quic._close_event is None:
            self.settle(now)
        self.recovery.paced_at = None
        self._follow(now)
