"""The kernel's namespaces as objects: a host's network and mounts, and the processes of one Lab.

Nothing is given a name in the file system (`ip netns add` would), so nothing can be left behind:

- A host's namespaces are held by two file descriptors of this process and by what runs in them.
- All programs of a Lab live in one process namespace. Its first process, the keeper, dies when the thread that
  started it does or when the other end of its standard input closes; the kernel then kills everything else in there.

A thread enters a host by `setns` (namespaces(7)); the process as a whole never does, so a caller's own sockets and
files stay where they are. Python has `os.setns` since 3.12 only, hence ctypes.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from caetun.errors import HostError

# -- fixed by the specification: linux/sched.h, linux/mount.h, linux/sockios.h, linux/if.h --
_CLONE_FS = 0x0000_0200
_CLONE_NEWNS = 0x0002_0000
_CLONE_NEWUSER = 0x1000_0000
_CLONE_NEWPID = 0x2000_0000
_CLONE_NEWNET = 0x4000_0000
_MS_NOSUID_NODEV_NOEXEC = 0x2 | 0x4 | 0x8
_MS_REC_PRIVATE = 0x4000 | 1 << 18
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 0x1
_IFREQ_FLAGS = struct.Struct("=16sH22x")

_KEEPER = """
import ctypes, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)              # PR_SET_PDEATHSIG: go when the thread that started us goes
signal.signal(signal.SIGCHLD, signal.SIG_IGN)           # orphans become ours: let the kernel reap them
signal.signal(signal.SIGINT, signal.SIG_IGN)            # Ctrl-C is for the scenario; it closes the Lab
sys.stdin.read()                                        # ends with the process that holds the other end
"""

_libc = ctypes.CDLL(None, use_errno=True)
_T = TypeVar("_T")


def become_root() -> None:
    """Make an ordinary user root of a new user namespace with an empty network; root stays what it is.

    To be called once, before any thread exists (user_namespaces(7) wants one thread). The whole process moves: it
    loses the real network and keeps its files. Raises HostError where the kernel or its policy forbids it.
    """
    if os.geteuid() == 0:
        return
    if threading.active_count() > 1:
        raise HostError("cannot enter a user namespace: this process already has threads; run as root instead")
    user, group = os.geteuid(), os.getegid()
    try:
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny")  # user_namespaces(7): required before an ordinary gid_map
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        _loopback_up()
    except OSError as error:
        raise HostError(
            f"this machine refuses user namespaces to ordinary users ({error.strerror}); run as root, or allow them"
            " (sysctl kernel.apparmor_restrict_unprivileged_userns=0, kernel.unprivileged_userns_clone=1)"
        ) from error


def in_thread(function: Callable[[], _T]) -> _T:
    """Call `function` in a thread of its own, which may change namespaces, and return or raise what it does."""
    outcome: Future[_T] = Future()

    def work() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # not only Exception: whatever ends the thread belongs to the caller
            outcome.set_exception(error)

    threading.Thread(target=work, name="lab", daemon=True).start()
    return outcome.result()


def in_empty_network(function: Callable[[], _T]) -> _T:
    """Call `function` in a new, empty network namespace, which ends with it. For trying what the kernel can do."""

    def work() -> _T:
        _unshare(_CLONE_NEWNET)
        return function()

    return in_thread(work)


def program_path() -> str:
    """Return where to look for programs: PATH, and the directories that Debian leaves out of an ordinary user's."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


class HostNamespaces:
    """One host's network and mounts. Not thread-safe to close while in use."""

    def __init__(self, private: Sequence[str] = ()) -> None:
        """Make both. `private`: existing directories that get an empty file system of this host's own."""
        self._network, self._mounts = in_thread(lambda: _new_host(private))

    @property
    def network(self) -> int:
        """The file descriptor of the network namespace, owned by this object."""
        return self._network

    def enter(self) -> None:
        """Move the calling thread into the host, for good: only for a thread that ends afterwards."""
        directory = Path.cwd()
        _unshare(_CLONE_FS)  # setns(2): a thread that shares its root and directory may not change mounts
        _setns(self._network, _CLONE_NEWNET)
        _setns(self._mounts, _CLONE_NEWNS)
        os.chdir(directory)  # setns went to the root directory

    def close(self) -> None:
        """Let go: the kernel removes both when the last process in them is gone."""
        os.close(self._network)
        os.close(self._mounts)


class Processes:
    """The programs of one Lab: started in a process namespace, and all gone when it closes."""

    def __init__(self) -> None:
        self._closed = threading.Event()
        self._running: list[subprocess.Popen[bytes]] = []
        started: Future[subprocess.Popen[bytes]] = Future()
        # The thread must outlive the keeper: PR_SET_PDEATHSIG is about the thread that forked, not its process.
        self._thread = threading.Thread(target=self._keep, args=(started,), name="lab keeper", daemon=True)
        self._thread.start()
        self._keeper = started.result()
        self._namespace = os.open(f"/proc/{self._keeper.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def _keep(self, started: Future[subprocess.Popen[bytes]]) -> None:
        try:
            _unshare(_CLONE_NEWPID)  # our next child is the first process of a new namespace
            program = [sys.executable, "-I", "-S", "-c", _KEEPER]
            started.set_result(subprocess.Popen(program, stdin=subprocess.PIPE, cwd="/"))
        except BaseException as error:  # whatever it is, the constructor waits for it
            started.set_exception(error)
            return
        self._closed.wait()

    def start(self, host: HostNamespaces, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        """Start a program in `host`. Its pid is the one seen from here, so it can be signalled and waited for."""

        def work() -> subprocess.Popen[bytes]:
            host.enter()
            _setns(self._namespace, _CLONE_NEWPID)
            return start()

        process = in_thread(work)
        self._running = [other for other in self._running if other.poll() is None]
        self._running.append(process)
        return process

    def close(self) -> None:
        """Kill everything, wait until it is gone. May be called twice."""
        if self._closed.is_set():
            return
        self._keeper.send_signal(signal.SIGKILL)
        # The kernel ends a process namespace only when all its zombies are reaped: children before the keeper.
        for process in self._running:
            process.wait()
        self._keeper.communicate()
        os.close(self._namespace)
        self._closed.set()
        self._thread.join()


def _new_host(private: Sequence[str]) -> tuple[int, int]:
    """Make a host around the calling thread; return the descriptors of its network and its mounts."""
    _unshare(_CLONE_FS | _CLONE_NEWNS | _CLONE_NEWNET)
    _mount("none", "/", "", _MS_REC_PRIVATE)
    for directory in private:
        _mount("tmpfs", directory, "tmpfs", _MS_NOSUID_NODEV_NOEXEC)
    try:
        _mount("sysfs", "/sys", "sysfs", _MS_NOSUID_NODEV_NOEXEC)  # so that /sys/class/net shows this host's devices
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EBUSY):  # a container may hide parts of /sys: do without
            raise
    for scope in ("all", "default"):
        # An address is usable at once: nobody else is on these cables to collide with (RFC 4862, section 5.4).
        Path(f"/proc/sys/net/ipv6/conf/{scope}/accept_dad").write_text("0")
        Path(f"/proc/sys/net/ipv6/conf/{scope}/dad_transmits").write_text("0")
    _loopback_up()
    flags = os.O_RDONLY | os.O_CLOEXEC
    return os.open("/proc/thread-self/ns/net", flags), os.open("/proc/thread-self/ns/mnt", flags)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _, flags = _IFREQ_FLAGS.unpack(fcntl.ioctl(control, _SIOCGIFFLAGS, _IFREQ_FLAGS.pack(b"lo", 0)))
        fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ_FLAGS.pack(b"lo", flags | _IFF_UP))


def _unshare(flags: int) -> None:
    if _libc.unshare(flags):
        _raise_errno("unshare")


def _setns(descriptor: int, kind: int) -> None:
    if _libc.setns(descriptor, kind):
        _raise_errno("setns")


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    if _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None):
        _raise_errno(f"mount {target}")


def _raise_errno(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), what)
