"""Who was invited, and who has come: the rows of a hub's store. Keys are public ones, in hexadecimal digits there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from caetun.errors import ConfigurationError

if TYPE_CHECKING:
    from caetun.negotiation.store import Store

# chosen by us
REMEMBERED_SECONDS: Final = 7 * 86_400.0
"""How long a token that is used or has expired is still told so, instead of being met with silence."""
MAX_INVITATIONS: Final = 256
"""Open or remembered ones: each is an identity that the hub answers."""
MAX_MEMBERS: Final = 4096


class Invited(NamedTuple):
    """An invitation that was made."""

    key: bytes
    name: str
    words: str
    """Of the future port, as in `--peer`."""
    expires: float
    used: float | None
    member: str | None
    """The key that has enrolled by it."""


class Member(NamedTuple):
    """A peer that has enrolled."""

    key: bytes
    name: str
    words: str
    joined: float


class Membership:
    """Invitations and members of one hub. Times are seconds since 1970."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def invite(self, key: bytes, name: str, words: str, wall: float, seconds: float) -> None:
        """Note an invitation that is good for so long. An open one of that name ends. Raises ConfigurationError."""
        store = self._store
        with store.change():
            self._tidy(wall)
            if store.rows("SELECT 1 FROM member WHERE name = ?", name):
                raise ConfigurationError(f"{name}: is a member already: caetun expel {name} first, or use another name")
            store.run("DELETE FROM invitation WHERE name = ? AND used IS NULL", name)
            (count,) = store.rows("SELECT COUNT(*) AS n FROM invitation")[0]
            if count >= MAX_INVITATIONS:
                raise ConfigurationError(f"{MAX_INVITATIONS} invitations are open or recent: wait until some expire")
            store.run(
                "INSERT INTO invitation (key, name, words, created, expires) VALUES (?, ?, ?, ?, ?)",
                *(key.hex(), name, words, wall, wall + seconds),
            )

    def _tidy(self, wall: float) -> None:
        past = wall - REMEMBERED_SECONDS
        self._store.run("DELETE FROM invitation WHERE expires < ? OR used < ?", past, past)

    def redeem(self, invitation: bytes, key: bytes, wall: float) -> str | None:
        """Make whoever has this key a member, once; None, or why not."""
        store = self._store
        with store.change():
            rows = store.rows("SELECT * FROM invitation WHERE key = ?", invitation.hex())
            if not rows:
                return "this invitation was withdrawn: ask for another one"
            row = rows[0]
            if row["member"] == key.hex():
                return None  # the answer was lost
            if row["used"] is not None:
                return "this invitation was used already: ask for another one"
            if wall >= row["expires"]:
                return "this invitation has expired: ask for another one"
            if store.rows("SELECT 1 FROM member WHERE name = ? OR key = ?", row["name"], key.hex()):
                return f"{row['name']} is a member already: ask for another invitation"
            if store.rows("SELECT COUNT(*) AS n FROM member")[0]["n"] >= MAX_MEMBERS:
                return f"there are {MAX_MEMBERS} members already"
            store.run("UPDATE invitation SET used = ?, member = ? WHERE key = ?", wall, key.hex(), invitation.hex())
            store.run(
                "INSERT INTO member (key, name, words, joined) VALUES (?, ?, ?, ?)",
                *(key.hex(), row["name"], row["words"], wall),
            )
        return None

    def expel(self, name: str) -> bool:
        """Take a member, or an open invitation, away; whether there was one."""
        with self._store.change():
            keys = [row["key"] for row in self._store.rows("SELECT key FROM member WHERE name = ?", name)]
            for key in keys:
                self._store.run("DELETE FROM lease WHERE peer = ?", key)
            gone = self._store.run("DELETE FROM member WHERE name = ?", name)
            return bool(gone + self._store.run("DELETE FROM invitation WHERE name = ? AND used IS NULL", name))

    def invitations(self, wall: float) -> list[Invited]:
        """All that the hub still answers."""
        rows = self._store.rows("SELECT * FROM invitation WHERE expires >= ?", wall - REMEMBERED_SECONDS)
        return [
            Invited(bytes.fromhex(row["key"]), row["name"], row["words"], row["expires"], row["used"], row["member"])
            for row in rows
        ]

    def members(self) -> list[Member]:
        """All of them, in the order in which they came."""
        return [
            Member(bytes.fromhex(row["key"]), row["name"], row["words"], row["joined"])
            for row in self._store.rows("SELECT * FROM member ORDER BY joined, name")
        ]

    @property
    def version(self) -> int:
        """Another number as soon as somebody else has changed anything."""
        number: int = self._store.rows("PRAGMA data_version")[0][0]
        return number
