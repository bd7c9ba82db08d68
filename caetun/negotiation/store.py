"""What a hub remembers between runs: leases, invitations, members. SQLite: each change is whole or has not happened.

Used by the hub while it runs and by commands beside it; whoever writes holds a lock for a moment. Times are seconds
since 1970, given by the caller.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from caetun.errors import HostError

# chosen by us
_BUSY_SECONDS: Final = 5.0
"""Somebody else writes: commands hold the lock for milliseconds."""
_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE lease (
    peer TEXT NOT NULL, network TEXT NOT NULL, address TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
    since REAL NOT NULL, seen REAL NOT NULL, PRIMARY KEY (peer, network)
) STRICT;
CREATE TABLE invitation (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, words TEXT NOT NULL, created REAL NOT NULL, expires REAL NOT NULL,
    used REAL, member TEXT
) STRICT;
CREATE TABLE member (
    key TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, words TEXT NOT NULL, joined REAL NOT NULL
) STRICT;
"""


def store_path(state: Path, identity: bytes) -> Path:
    """Where the hub of this public key (or hash of a secret) keeps its own."""
    return state / f"hub-{hashlib.blake2s(identity, digest_size=8).hexdigest()}.sqlite"


class Store:
    """The database of one hub."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it. Raises HostError."""
        self.path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise HostError(f"{path}: cannot be made: {error.strerror}: check the state directory") from None
        with self._told():
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            with self.change():
                (version,) = self._db.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    for statement in _SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        if version > _SCHEMA_VERSION:
            raise HostError(f"{path}: was made by a later version of CaeTun: update, or move it away")

    def close(self) -> None:
        """Give the file back."""
        self._db.close()

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """What is done inside becomes true as a whole, or not at all. Raises HostError."""
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """What a query finds. Raises HostError."""
        with self._told():
            return self._db.execute(query, values).fetchall()

    def run(self, statement: str, *values: Any) -> int:
        """Execute a statement; how many rows it changed. Raises HostError."""
        with self._told():
            return self._db.execute(statement, values).rowcount

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise HostError(f"{self.path}: {error}: check the file and the space left") from error
