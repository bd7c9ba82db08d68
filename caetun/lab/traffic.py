"""Traffic to measure a path with, between two hosts of a Lab: echo requests, a TCP stream, a burst of datagrams.

Everything is sent and checked by this process, so no program need be installed; the sockets live in the hosts.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass

from caetun.errors import HostError
from caetun.lab.network import Host

# -- fixed by the specification: RFC 792, linux/socket.h --
_ICMP_ECHO_REQUEST, _ICMP_ECHO_REPLY = 8, 0
_ICMP_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
_SO_RCVBUFFORCE = 33

# -- chosen by us --
_PING_DATA = bytes(56)  # as ping(8) sends
_CHUNK = 1 << 20  # bytes per send and receive: the interpreter's share of a stream is then below one per cent
_PATIENCE = 10.0  # seconds without any progress before a stream counts as broken
_SILENCE = 0.5  # seconds without a datagram after which a burst is over
_BURST_GROUP = 32  # datagrams between two pauses: a burst is to fill queues of hundreds, not of thousands
_BURST_PAUSE = 0.001  # seconds
_BURST_BUFFER = 8 << 20  # bytes of the receiver's socket


@dataclass(frozen=True, slots=True)
class Stream:
    """What a TCP stream has carried, every byte compared."""

    octets: int
    seconds: float

    @property
    def rate(self) -> float:
        """Bits per second."""
        return self.octets * 8 / self.seconds


def ping(host: Host, address: str, *, count: int = 1, interval: float = 0.01, timeout: float = 1.0) -> list[float]:
    """Send `count` echo requests (RFC 792) to the IPv4 `address`; return the seconds each answer took, if it came.

    The next request goes out `interval` seconds after the answer, or after `timeout` seconds without one.
    """
    identifier = os.getpid() & 0xFFFF
    times = []
    with host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as icmp:
        for sequence in range(count):
            if sequence:
                time.sleep(interval)
            sent = time.monotonic()
            try:
                icmp.sendto(_echo_request(identifier, sequence), (address, 0))
            except OSError:  # no route (yet), device down: like an answer that does not come
                time.sleep(timeout)
                continue
            if _await_reply(icmp, (identifier, sequence), sent + timeout):
                times.append(time.monotonic() - sent)
    return times


def stream(sender: Host, receiver: Host, address: str, seconds: float) -> Stream:
    """Send as fast as TCP can for `seconds` to `address`, which is `receiver`'s. Raises HostError if bytes go wrong."""
    pattern = os.urandom(_CHUNK)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with receiver.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((address, 0))
        listener.listen(1)
        listener.settimeout(_PATIENCE)
        where = listener.getsockname()
        sent: list[int | OSError] = []
        thread = threading.Thread(
            target=lambda: sent.append(_send_stream(sender, family, where, (pattern, seconds))), daemon=True
        )
        thread.start()
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(_PATIENCE)
                result = _receive_stream(connection, pattern)
        except TimeoutError as error:
            raise HostError(f"a TCP stream from {sender.name} to {address} stands still for {_PATIENCE:g} s") from error
        except OSError as error:
            raise HostError(f"a TCP stream from {sender.name} to {address} breaks: {error.strerror}") from error
    thread.join()
    if sent != [result.octets]:
        raise HostError(f"a TCP stream from {sender.name} sent {sent[0]}, but {result.octets} bytes arrived")
    return result


def burst(sender: Host, receiver: Host, address: str, *, count: int, size: int) -> int:
    """Send `count` numbered UDP datagrams of `size` bytes (8 at least); return how many different ones arrived."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with receiver.socket(family, socket.SOCK_DGRAM) as inbox, sender.socket(family, socket.SOCK_DGRAM) as outbox:
        try:
            inbox.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BURST_BUFFER)
        except PermissionError:  # not root of the real machine
            inbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BURST_BUFFER)
        inbox.bind((address, 0))
        inbox.settimeout(_SILENCE)
        outbox.connect(inbox.getsockname())
        seen: set[bytes] = set()
        reader = threading.Thread(target=lambda: _receive_burst(inbox, seen), daemon=True)
        reader.start()
        padding = bytes(size - 8)
        for number in range(count):
            outbox.send(number.to_bytes(8) + padding)
            if number % _BURST_GROUP == _BURST_GROUP - 1:
                time.sleep(_BURST_PAUSE)
        reader.join()
    return len(seen)


def _echo_request(identifier: int, sequence: int) -> bytes:
    """Build one echo request with its checksum (RFC 1071)."""
    unsummed = _ICMP_HEADER.pack(_ICMP_ECHO_REQUEST, 0, 0, identifier, sequence) + _PING_DATA
    total = sum(struct.unpack(f"!{len(unsummed) // 2}H", unsummed))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return _ICMP_HEADER.pack(_ICMP_ECHO_REQUEST, 0, checksum, identifier, sequence) + _PING_DATA


def _await_reply(icmp: socket.socket, wanted: tuple[int, int], deadline: float) -> bool:
    """Wait for the reply with this identifier and sequence number."""
    while (left := deadline - time.monotonic()) > 0 and select.select([icmp], [], [], left)[0]:
        packet = icmp.recv(2048)
        start = (packet[0] & 0x0F) * 4  # a raw IPv4 socket gives the IP header too
        if len(packet) >= start + _ICMP_HEADER.size:
            kind, _, _, identifier, sequence = _ICMP_HEADER.unpack_from(packet, start)
            if kind == _ICMP_ECHO_REPLY and (identifier, sequence) == wanted:
                return True
    return False


def _send_stream(host: Host, family: int, where: tuple[str, int], what: tuple[bytes, float]) -> int | OSError:
    """Send the pattern over and over for some seconds; return the bytes sent, or what went wrong."""
    pattern, seconds = what
    sent = 0
    try:
        with host.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(where)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                connection.sendall(pattern)
                sent += len(pattern)
    except OSError as error:
        return error
    return sent


def _receive_stream(connection: socket.socket, pattern: bytes) -> Stream:
    """Receive until the far end closes, comparing every byte."""
    buffer = bytearray(len(pattern))
    view = memoryview(buffer)
    octets = filled = 0
    start = time.monotonic()
    while count := connection.recv_into(view[filled:]):
        filled += count
        if filled == len(buffer):
            if buffer != pattern:
                raise HostError(f"a TCP stream was changed on its way, within the MiB after byte {octets}")
            octets, filled = octets + filled, 0
    return Stream(octets + filled, time.monotonic() - start)


def _receive_burst(inbox: socket.socket, seen: set[bytes]) -> None:
    """Note the number of every datagram until none comes any more."""
    try:
        while True:
            seen.add(inbox.recv(65_536)[:8])
    except TimeoutError:
        return
