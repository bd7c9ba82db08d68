"""TUN and TAP devices of the Linux kernel, with virtio_net_hdr and every offload the kernel grants.

With `IFF_VNET_HDR` and `TUNSETOFFLOAD` the kernel hands over TCP and UDP in superframes of up to 64 KiB and takes them
back the same way (Documentation/networking/tuntap.rst, include/uapi/linux/if_tun.h).
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from caetun.devices.manners import BURST, Manners
from caetun.errors import DeviceError
from caetun.types import DropReason, Drops, Iovec, Mode
from caetun.wire.container import (
    HEAD_SIZE,
    MAX_BATCH_FRAMES,
    OFFLOAD_CHECKSUM,
    OFFLOAD_TSO4,
    OFFLOAD_TSO6,
    OFFLOAD_USO,
    VNET_SIZE,
    Batch,
)
from caetun.wire.virtio_net import NO_OFFLOAD

# fixed by the kernel's interface
_CLONE: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA
_TUNGETIFF: Final = 0x800454D2
_TUNSETOFFLOAD: Final = 0x400454D0
_TUNSETVNETHDRSZ: Final = 0x400454D8
_TUNSETVNETLE: Final = 0x400454DC
_TUNGETDEVNETNS: Final = 0x54E3
_IFF_TUN: Final = 0x0001
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_GDRVINFO: Final = 3
_DRVINFO_SIZE: Final = 196
_DRIVER_AT: Final = 4
_BUS_AT: Final = 4 + 3 * 32
_IFREQ: Final = struct.Struct("16sH22x")
_NAME_LIMIT: Final = 15
_F_CSUM: Final = 0x01
_F_TSO4: Final = 0x02
_F_TSO6: Final = 0x04
_F_TSO_ECN: Final = 0x08
_F_USO: Final = 0x20 | 0x40

# chosen by us
_OFFLOAD_LADDER: Final = (
    (_F_CSUM | _F_TSO4 | _F_TSO6 | _F_TSO_ECN | _F_USO, OFFLOAD_CHECKSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_USO),
    (_F_CSUM | _F_TSO4 | _F_TSO6 | _F_TSO_ECN, OFFLOAD_CHECKSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6),
    (_F_CSUM, OFFLOAD_CHECKSUM),
    (0, 0),
)
"""What to ask the kernel for, best first: USO came with Linux 6.2."""
_QUIET_SECONDS: Final = 0.0005
"""Since the last wake-up: more than this, and the frame that has come is probably alone."""
_DEFAULT_PATTERN: Final = "caetun%d"


class TunTap:
    """A device that this process holds by a descriptor."""

    def __init__(self, fd: int, name: str, mode: Mode, drops: Drops) -> None:
        """Wraps an open descriptor; `open_device` and `inherited_device` make one."""
        self._fd = fd
        self._drops = drops
        self.name = name
        self.mode = mode
        self.offloads = 0
        self.headers = True
        """Whether the kernel puts a virtio_net_hdr in front of each frame."""
        self._read_at = 0.0
        self.created = False
        """Whether the interface exists only because of us, and goes when the descriptor is closed."""
        self.here: bool | None = True
        """Whether the interface is of this network namespace; None if the kernel does not tell us."""
        self.blocking = False
        """Whether reads from the descriptor waited before we had it: others may go on using it."""
        self._manners = Manners()
        self.notes: list[str] = []
        """What the kernel did not grant, for the log."""

    def fileno(self) -> int:
        """Descriptor to wait on for reading."""
        return self._fd

    def read_batch(self, batch: Batch) -> None:
        """Add waiting frames to the batch until the device is empty or the batch is full. Hot: one read a frame."""
        try:
            if self.headers:
                now = time.monotonic()
                # A lone frame is sent before we ask for more: that costs nothing, as more would wake us again.
                most = 1 if now - self._read_at > _QUIET_SECONDS else MAX_BATCH_FRAMES
                self._read_at = now
                batch.fill(os.readv, self._fd, most)
            else:
                self._read_bare(batch)
        except BlockingIOError:
            return
        except OSError as error:
            raise DeviceError(f"{self.name}: cannot be read any more: {error.strerror}: was it deleted?") from error

    def _read_bare(self, batch: Batch) -> None:
        """The same on a device without virtio_net_hdr."""
        batch.header[:] = NO_OFFLOAD
        while not batch.full:
            batch.commit(os.readv(self._fd, [batch.view[batch.end + HEAD_SIZE :]]))

    def write_batch(self, frames: Sequence[Iovec]) -> None:
        """Write frames; what the kernel refuses (interface down, no memory) is dropped and counted."""
        if len(frames) < BURST:
            self._write(frames)
            return
        for at in range(0, len(frames), BURST):
            self._write(frames[at : at + BURST])
            self._manners.after_burst()

    def _write(self, frames: Sequence[Iovec]) -> None:
        """Hot: one turn a frame."""
        fd, writev = self._fd, os.writev
        for iovec in frames:
            try:
                writev(fd, iovec if self.headers else [bytes(iovec[0])[VNET_SIZE:], *iovec[1:]])
            except BlockingIOError:
                self._drops.count(DropReason.DEVICE_FULL)
            except OSError:
                self._drops.count(DropReason.DEVICE_REFUSED)

    def close(self) -> None:
        """Give the device back: an interface we created vanishes, a persistent one stays."""
        if self._fd >= 0:
            if self.offloads and not self.created:
                self.forgo_offloads()
            if self.blocking:
                os.set_blocking(self._fd, True)
            os.close(self._fd)
            self._fd = -1

    def lay_out_headers(self) -> None:
        """Have each frame preceded by ten bytes, integers little-endian, on whatever processor."""
        fcntl.ioctl(self._fd, _TUNSETVNETHDRSZ, struct.pack("i", VNET_SIZE))
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._fd, _TUNSETVNETLE, struct.pack("i", 1))

    def ask_offloads(self) -> None:
        """Have the kernel hand over superframes; falls back step by step on an older kernel."""
        for asked, granted in _OFFLOAD_LADDER:
            try:
                fcntl.ioctl(self._fd, _TUNSETOFFLOAD, asked)
            except OSError as error:
                self.notes.append(f"kernel refuses offloads {asked:#x} ({error.strerror}): going on with fewer")
                continue
            self.offloads = granted
            return

    def forgo_offloads(self) -> None:
        """Have the kernel hand over packets only: a persistent interface keeps what its last user asked for."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._fd, _TUNSETOFFLOAD, 0)
        self.offloads = 0


def existing_mode(name: str) -> Mode | None:
    """Which kind of TUN/TAP interface of that name exists in this network namespace; None if there is none.

    Raises DeviceError if an interface of that name is of another kind.
    """
    try:
        socket.if_nametoindex(name)
    except OSError:
        return None
    # The driver's own word (ethtool's GDRVINFO): sysfs may be mounted for another network namespace.
    answer = array.array("B", struct.pack("I", _ETHTOOL_GDRVINFO) + bytes(_DRVINFO_SIZE - 4))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("16sP16x", name.encode(), answer.buffer_info()[0]))
    if _text(answer, _DRIVER_AT) != "tun":
        raise DeviceError(f"{name}: the name is taken by an interface that is not TUN/TAP: choose another with --dev")
    return Mode.TAP if _text(answer, _BUS_AT) == "tap" else Mode.TUN


def _text(answer: array.array[int], at: int) -> str:
    """A 32-byte string field."""
    return answer[at : at + 32].tobytes().partition(b"\0")[0].decode(errors="replace")


def open_device(name: str | None, mode: Mode, drops: Drops, offload: bool = True) -> TunTap:
    """Create an interface, or attach to a persistent one of that name (at most 15 bytes; None: the kernel numbers it).

    Raises DeviceError with what is missing and how to mend it.
    """
    wanted = name or _DEFAULT_PATTERN
    if not 0 < len(wanted.encode()) <= _NAME_LIMIT or set(wanted) & {"/", "\0"}:
        raise DeviceError(f"{wanted}: not an interface name: use 1 to {_NAME_LIMIT} characters without '/'")
    present = existing_mode(wanted) if name else None
    if present not in (None, mode):
        raise DeviceError(f"{wanted}: exists as a {present} device: use --mode {present}, or another --dev")
    fd = _open_clone()
    flags = (_IFF_TAP if mode is Mode.TAP else _IFF_TUN) | _IFF_NO_PI | (_IFF_VNET_HDR if offload else 0)
    try:
        granted = fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(wanted.encode(), flags))
    except OSError as error:
        os.close(fd)
        raise _refusal(wanted, mode, present is not None, error) from error
    device = TunTap(fd, _IFREQ.unpack(granted)[0].rstrip(b"\0").decode(), mode, drops)
    device.created = present is None
    device.headers = offload
    if offload:
        device.lay_out_headers()
        device.ask_offloads()
    else:
        device.forgo_offloads()
    return device


def inherited_device(fd: int, drops: Drops, offload: bool = True) -> TunTap:
    """Use a TUN/TAP descriptor that this process was given (`--dev fd:N`); raises DeviceError if it is none.

    Its interface may be of another network namespace (`TunTap.here`), where a name means something else than here.
    """
    try:
        answer = fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size))
    except OSError as error:
        raise DeviceError(f"fd:{fd}: not an attached TUN/TAP descriptor ({error.strerror}): pass one in") from error
    padded, flags = _IFREQ.unpack(answer)
    name = padded.rstrip(b"\0").decode()
    here = _is_here(fd)
    if here is not False and _packet_information(name):
        raise DeviceError(f"fd:{fd}: opened without IFF_NO_PI: open the device with it")
    mode = Mode.TAP if flags & _IFF_TAP else Mode.TUN
    device = TunTap(fd, name, mode, drops)
    device.here = here
    device.blocking = os.get_blocking(fd)
    os.set_blocking(fd, False)
    device.headers = bool(flags & _IFF_VNET_HDR)
    if device.headers:
        device.lay_out_headers()
    elif offload:
        device.notes.append("descriptor was opened without IFF_VNET_HDR: every packet crosses alone, which is slow")
    if device.headers and offload:
        device.ask_offloads()
    else:
        device.forgo_offloads()
    return device


def _is_here(fd: int) -> bool | None:
    """Whether a device's interface is of this thread's network namespace.

    None if the kernel does not say: it does since Linux 5.2, to whoever has CAP_NET_ADMIN where the interface is.
    """
    try:
        theirs = fcntl.ioctl(fd, _TUNGETDEVNETNS)
    except OSError:
        return None
    try:
        return os.path.samestat(os.fstat(theirs), os.stat("/proc/thread-self/ns/net"))
    except OSError:  # no /proc
        return None
    finally:
        os.close(theirs)


def _packet_information(name: str) -> bool:
    """Whether each frame of a device comes behind 4 bytes of `struct tun_pi`, as far as this host tells.

    TUNGETIFF does not: its bit for IFF_NO_PI also means that no filter is attached. sysfs does, if it is the one of the
    device's network namespace.
    """
    try:
        directory = Path("/sys/class/net", name)
        if int((directory / "ifindex").read_text()) != socket.if_nametoindex(name):
            return False
        return not int((directory / "tun_flags").read_text(), 16) & _IFF_NO_PI
    except (OSError, ValueError):
        return False


def _open_clone() -> int:
    try:
        return os.open(_CLONE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DeviceError(
            f"{_CLONE}: missing: load the module (modprobe tun); in a container: --device {_CLONE} --cap-add NET_ADMIN"
        ) from None
    except PermissionError:
        raise DeviceError(f"{_CLONE}: no permission to open it: run as root, or mend its mode (0666)") from None
    except OSError as error:
        raise DeviceError(f"{_CLONE}: {error.strerror}: is the tun module loaded (modprobe tun)?") from None


def _refusal(name: str, mode: Mode, present: bool, error: OSError) -> DeviceError:
    """In plain words, why the kernel did not give us the interface, which was `present` before or not."""
    if error.errno == errno.EPERM and not present:
        ready = name.replace("%d", "0")  # only the kernel fills in a number
        advice = f"ip tuntap add dev {ready} mode {mode} user NAME"
        if ready != name:
            advice += f", and --dev {ready} here"
        return DeviceError(
            f"{name}: no permission to create it: run as root, give CAP_NET_ADMIN, or make it beforehand: {advice}"
        )
    if error.errno == errno.EPERM:
        return DeviceError(f"{name}: belongs to another user: ip tuntap add ... user NAME sets the owner")
    if error.errno == errno.EBUSY:
        return DeviceError(f"{name}: in use by another process: stop that one, or choose another with --dev")
    return DeviceError(f"{name}: kernel refuses the device: {error.strerror}")
