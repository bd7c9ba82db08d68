"""`password`: user and password, held against a file of Argon2id hashes."""

from __future__ import annotations

from pathlib import Path

from caetun.auth.base import PASSWORD, USER, WRONG, Claim, Denied
from caetun.auth.users import MAX_PASSWORD, User, is_password, read_users, stand_in


class Users:
    """A file of users, as it was when it was read last. Others' threads see one state or the next, never half of it."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigurationError."""
        self._path = path
        self._users: dict[str, User] = {}
        self._stand_in = ""
        self.warning: str | None = None
        self.reload()

    def reload(self) -> None:
        """Read it again. Raises ConfigurationError, and then nothing has changed."""
        users, self.warning = read_users(self._path)
        self._stand_in = stand_in(users)
        self._users = users

    def __contains__(self, name: object) -> bool:
        return name in self._users

    def phc(self, name: str) -> str:
        """The hash of a user, or one that is nobody's."""
        user = self._users.get(name)
        return self._stand_in if user is None else user.phc

    def secret(self, name: str) -> bytes | None:
        """Of one-time codes."""
        user = self._users.get(name)
        return None if user is None else user.secret


class Password:
    """Agrees with the password of a user in a file."""

    name = "password"
    fields = (USER, PASSWORD)

    def __init__(self, users: Users) -> None:
        self._users = users

    def check(self, claim: Claim) -> str:
        """See `Method`."""
        user, password = claim.values.get(USER.name, ""), claim.values.get(PASSWORD.name, "")
        right = is_password(password[:MAX_PASSWORD], self._users.phc(user))
        if not right or user not in self._users or len(password) > MAX_PASSWORD:
            raise Denied(WRONG, "wrong password" if user in self._users else "no such user")
        return user
