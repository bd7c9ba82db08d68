"""recvmmsg(2): many datagrams, or many GRO bursts, in one system call.

The standard library has `recvmsg` only, which costs several microseconds of Python for each datagram on a path without
GRO. The structures are laid out by `ctypes`; what the kernel has filled in is read through memoryviews.

    message i -> memory[i * ROOM:], its address in names[i * NAME:], its control message in controls[i * CONTROL:]
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from typing import Final, NamedTuple

from caetun.errors import NetworkError
from caetun.transports.udp_socket import GRO_SIZE, UDP_GRO

# fixed by the kernel's interface
_NAME: Final = 28
"""Bytes of a sockaddr_in6, the larger one."""
_FAMILY4: Final = struct.pack("@H", socket.AF_INET)
_FAMILY6: Final = struct.pack("@H", socket.AF_INET6)
_CMSG: Final = struct.Struct("@Nii")

# chosen by us
MESSAGES: Final = 64
"""Datagrams or bursts taken by one call."""
BURSTS: Final = 4
"""The same while GRO makes bursts of them: few buffers that stay in the processor's cache beat many."""
_ROOM: Final = (1 << 16) + 2112
"""Bytes for each: a GRO burst has up to 65,507. No power of two: buffers must not compete for the same cache lines."""
_CONTROL: Final = 64
"""Bytes for control messages of each: one of GRO takes 24."""


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MessageHeader(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_IoVec)),
        ("iov_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    _fields_ = (("header", _MessageHeader), ("length", ctypes.c_uint))


class Arrival(NamedTuple):
    """One message: a datagram, or several of equal size (the last maybe shorter) from one source."""

    source: bytes
    """The kernel's sockaddr, a key to look the link up by."""
    view: memoryview
    """The bytes; valid until the next `receive`."""
    size: int
    """Of each datagram, in bytes."""


class MessageReceiver:
    """Buffers for `recvmmsg`, used again for each call."""

    def __init__(self, sock: socket.socket) -> None:
        """For a non-blocking socket. Takes 4 MiB of address space, of which what is never used costs nothing."""
        self._fd = sock.fileno()
        self._call = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._call.argtypes = (
            *(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int),
            ctypes.c_void_p,
        )
        memory = bytearray(MESSAGES * _ROOM)
        names = bytearray(MESSAGES * _NAME)
        controls = bytearray(MESSAGES * _CONTROL)
        self._keep = tuple((ctypes.c_char * len(part)).from_buffer(part) for part in (memory, names, controls))
        starts = [ctypes.addressof(part) for part in self._keep]
        self._iovs = (_IoVec * MESSAGES)()
        self._messages = (_Message * MESSAGES)()
        for number in range(MESSAGES):
            self._iovs[number] = _IoVec(starts[0] + number * _ROOM, _ROOM)
            header = self._messages[number].header
            header.name, header.name_length = starts[1] + number * _NAME, _NAME
            header.iov, header.iov_count = ctypes.pointer(self._iovs[number]), 1
            header.control, header.control_length = starts[2] + number * _CONTROL, _CONTROL
        self._address = ctypes.addressof(self._messages)
        self._raw = memoryview(self._messages).cast("B")
        self._template = bytes(self._raw)
        self._stride = ctypes.sizeof(_Message)
        words = self._raw.cast("I")
        word = ctypes.sizeof(ctypes.c_uint)
        self._lengths = words[_Message.length.offset // word :: self._stride // word]
        longs = self._raw.cast("N")  # type: ignore[call-overload]  # size_t, which typeshed leaves out
        self._control_lengths = longs[
            _MessageHeader.control_length.offset // longs.itemsize :: self._stride // longs.itemsize
        ]
        view, self._names, self._controls = memoryview(memory), memoryview(names), memoryview(controls)
        self._views = [view[number * _ROOM : (number + 1) * _ROOM] for number in range(MESSAGES)]
        self._used = 0
        self.most = MESSAGES
        """How many messages the last call could have brought: it brought fewer if no more were waiting."""
        self._gro = False

    def receive(self) -> list[Arrival]:
        """What is waiting, at most `MESSAGES`; empty when there is nothing. Raises OSError. Hot: once a wake-up."""
        used = self._used * self._stride
        self._raw[:used] = self._template[:used]
        self.most = BURSTS if self._gro else MESSAGES
        count = self._call(self._fd, self._address, self.most, socket.MSG_DONTWAIT, None)
        if count <= 0:
            self._used = 0
            number = ctypes.get_errno()
            if count == 0 or number in (errno.EAGAIN, errno.EINTR):
                return []
            raise OSError(number, os.strerror(number))
        self._used = count
        views, names = self._views, self._names
        lengths = self._lengths[:count].tolist()
        sources = [bytes(names[at : at + _NAME]) for at in range(0, count * _NAME, _NAME)]
        sizes = lengths
        controls = self._control_lengths[:count].tolist()
        self._gro = any(controls)
        if self._gro:
            sizes = [self._size(number, lengths[number], controls[number]) for number in range(count)]
        return [
            Arrival(source, views[number][:length], size)
            for number, (source, length, size) in enumerate(zip(sources, lengths, sizes, strict=True))
        ]

    def _size(self, number: int, length: int, control: int) -> int:
        """Bytes of each datagram in a burst: what GRO says, or the whole."""
        at = number * _CONTROL
        if control < _CMSG.size + GRO_SIZE.size:
            return length
        _, level, kind = _CMSG.unpack_from(self._controls, at)
        if (level, kind) != (socket.IPPROTO_UDP, UDP_GRO):
            return length
        (size,) = GRO_SIZE.unpack_from(self._controls, at + _CMSG.size)
        return size or length


def address_of(source: bytes) -> tuple[str, int] | tuple[str, int, int, int]:
    """The socket module's form of a sockaddr_in or sockaddr_in6."""
    (family,) = struct.unpack_from("@H", source)
    (port,) = struct.unpack_from(">H", source, 2)
    if family == socket.AF_INET6:
        (flow,) = struct.unpack_from(">I", source, 4)
        (scope,) = struct.unpack_from("@I", source, 24)
        return socket.inet_ntop(socket.AF_INET6, source[8:24]), port, flow, scope
    return socket.inet_ntop(socket.AF_INET, source[4:8]), port


def source_of(address: tuple[str, int] | tuple[str, int, int, int]) -> bytes:
    """The other way: what `receive` would give as the source, for what the socket module gave.

    A link-local host may name its interface (`fe80::1%eth0`); raises NetworkError if there is none of that name.
    """
    port = struct.pack(">H", address[1])
    if len(address) == 2:
        return _FAMILY4 + port + socket.inet_pton(socket.AF_INET, address[0]) + bytes(_NAME - 8)
    plain, _, zone = address[0].partition("%")
    host, scope = socket.inet_pton(socket.AF_INET6, plain), address[3]
    if zone and not scope:
        try:
            scope = int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
        except OSError as error:
            raise NetworkError(f"{address[0]}: this host has no interface {zone}: see `ip link`") from error
    return _FAMILY6 + port + struct.pack(">I", address[2]) + host + struct.pack("@I", scope)
