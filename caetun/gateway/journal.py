"""The state file: what a tunnel has changed of its host, so that somebody can undo it when nobody else is left to.

    DEVICE.undo   the changes made or about to be made, oldest first, as JSON (0600); replaced as a whole
    DEVICE.lock   locked (flock(2)) as long as the tunnel lives: the kernel lets go of it whatever ends the process

Both are in the runtime directory, which a reboot empties, as it does with the changes themselves.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from caetun.errors import NetworkError
from caetun.gateway.changes import Change, from_json, to_json
from caetun.runtime import JOURNAL

# chosen by us
_LOCK: Final = ".lock"
_FORMAT: Final = 1
_LIMIT: Final = 1 << 20
"""Bytes of a state file; a plan has some dozen changes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A change, and what was there before it."""

    change: Change
    before: Mapping[str, str] = field(default_factory=dict)


class Journal:
    """The state file of one device. `claim` it before anything is written."""

    def __init__(self, directory: Path, device: str) -> None:
        self.directory = directory
        self.device = device
        self.path = directory / f"{device}{JOURNAL}"
        self._lock = directory / f"{device}{_LOCK}"
        self._descriptor = -1

    def claim(self) -> bool:
        """Become its owner; False if another process is. Raises NetworkError if the directory cannot be used."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            while True:
                descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                    return False
                # Whoever had it before may have removed the file between our two calls.
                with contextlib.suppress(OSError):
                    if os.path.samestat(os.fstat(descriptor), os.stat(self._lock)):
                        self._descriptor = descriptor
                        return True
                os.close(descriptor)
        except OSError as error:
            raise NetworkError(f"{self.path}: the state file cannot be kept: {error.strerror}") from error

    def release(self) -> None:
        """Nobody owns it any more; without changes nothing is left of it. May be called twice."""
        if self._descriptor >= 0:
            self._lock.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self) -> list[Entry]:
        """The changes, oldest first; [] without a file. Raises NetworkError if it makes no sense."""
        raw = self._load()
        if raw is None:
            return []
        try:
            if raw["format"] != _FORMAT:
                raise ValueError(f"format {raw['format']!r}, not {_FORMAT}")
            return [Entry(from_json(each["change"]), dict(each["before"])) for each in raw["changes"]]
        except (KeyError, TypeError, ValueError) as error:
            raise NetworkError(f"{self.path}: is no state file of this version ({error}): see what it says") from None

    def write(self, entries: Sequence[Entry]) -> None:
        """Replace the file, or remove it if there are no changes. Raises NetworkError."""
        try:
            if not entries:
                self.path.unlink(missing_ok=True)
                return
            changes = [{"change": to_json(each.change), "before": dict(each.before)} for each in entries]
            content = {"format": _FORMAT, "device": self.device, "network": network_namespace(), "changes": changes}
            fresh = self.path.with_name(f".{self.path.name}")
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
                json.dump(content, file, indent=1)
            fresh.replace(self.path)
        except OSError as error:
            raise NetworkError(f"{self.path}: the state file cannot be written: {error.strerror}") from error

    @property
    def elsewhere(self) -> bool:
        """Whether its changes are those of another network namespace."""
        raw = self._load()
        return raw is not None and raw.get("network") != network_namespace()

    def _load(self) -> dict[str, Any] | None:
        try:
            with self.path.open("rb") as file:
                content = file.read(_LIMIT)
            raw = json.loads(content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise NetworkError(f"{self.path}: cannot be read: {error}") from None
        if not isinstance(raw, dict):
            raise NetworkError(f"{self.path}: is no state file")
        return raw


def journals(directory: Path) -> list[Journal]:
    """Those that are there, whoever owns them."""
    return [Journal(directory, path.name.removesuffix(JOURNAL)) for path in sorted(directory.glob(f"[!.]*{JOURNAL}"))]


@contextlib.contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Only one process at a time looks into the files of others and changes them."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def network_namespace() -> int:
    """Which network namespace this thread is in, as a number (proc_pid_ns(5)); 0 if nobody knows."""
    try:
        return os.stat("/proc/thread-self/ns/net").st_ino
    except OSError:
        return 0
