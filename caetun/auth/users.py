"""The file of users: one line each, `NAME:HASH` or `NAME:HASH:SECRET`, made by `caetun passwd`.

    alice:$argon2id$v=19$m=65536,t=3,p=4$...$...
    bob:$argon2id$v=19$m=65536,t=3,p=4$...$...:JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP

The hash is Argon2id's (RFC 9106) in PHC form, the secret is that of one-time codes in Base32. Empty lines and those
that begin with # are left alone.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from caetun.auth.totp import decode_secret, encode_secret
from caetun.errors import ConfigurationError

# chosen by us
MEMORY: Final = 64 * 1024
"""KiB: with the next two the second choice of RFC 9106, section 4."""
ITERATIONS: Final = 3
LANES: Final = 4
SALT_SIZE: Final = 16
HASH_SIZE: Final = 32
FILE_LIMIT: Final = 4 << 20
"""Bytes: some 20,000 users."""
MAX_PASSWORD: Final = 1024
"""Characters."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_HASH: Final = re.compile(
    r"\$argon2id\$v=19\$m=[0-9]{1,7},t=[0-9]{1,3},p=[0-9]{1,3}\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}"
)
_ONE_AT_A_TIME: Final = threading.Lock()
"""OpenSSL shares one set of threads between all hashes, and fails those that find none left."""
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class User(NamedTuple):
    """One line."""

    name: str
    phc: str
    secret: bytes | None = None
    """Of one-time codes."""

    def __repr__(self) -> str:
        return f"User({self.name})"

    def line(self) -> str:
        """As it is in the file."""
        return ":".join([self.name, self.phc, *([encode_secret(self.secret)] if self.secret is not None else [])])


def read_users(path: Path) -> tuple[dict[str, User], str | None]:
    """All users by name, and a warning if others can read the file. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(FILE_LIMIT + 1)
    except OSError as error:
        advice = "make one with caetun passwd FILE USER"
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}: {advice}") from None
    if len(content) > FILE_LIMIT:
        raise ConfigurationError(f"{path}: is larger than {FILE_LIMIT} bytes: is it the right file?")
    users: dict[str, User] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        user = _read_line(f"{path}:{number}", line)
        if user.name in users:
            raise ConfigurationError(f"{path}:{number}: {user.name} is there twice: take one line away")
        users[user.name] = user
    warning = None
    if stat.S_ISREG(mode) and mode & _OTHERS:
        warning = f"{path}: other users can read it (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}"
    return users, warning


def _read_line(where: str, line: str) -> User:
    name, *rest = line.strip().split(":")
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{where}: does not begin with a user's name: write lines with caetun passwd FILE USER"
        )
    if not 1 <= len(rest) <= 2 or not _HASH.fullmatch(rest[0]):
        raise ConfigurationError(f"{where}: {name} has no Argon2id hash: set one with caetun passwd FILE {name}")
    if len(rest) == 1:
        return User(name, rest[0])
    try:
        return User(name, rest[0], decode_secret(rest[1]))
    except ValueError as error:
        raise ConfigurationError(f"{where}: the secret of {name} {error}: caetun passwd FILE {name} --totp") from None


def hash_password(password: str, entropy: Callable[[int], bytes], memory: int = MEMORY) -> str:
    """The hash of a password in PHC form. `memory`: KiB. Takes some 100 ms, and does not hold up other threads."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    kdf = Argon2id(salt=entropy(SALT_SIZE), length=HASH_SIZE, iterations=ITERATIONS, lanes=LANES, memory_cost=memory)
    return kdf.derive_phc_encoded(password.encode())


def is_password(password: str, phc: str) -> bool:
    """Whether a password has this hash."""
    from cryptography.exceptions import InvalidKey
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    with _ONE_AT_A_TIME:
        try:
            Argon2id.verify_phc_encoded(password.encode(), phc)
        except InvalidKey:
            return False
    return True


def stand_in(users: Mapping[str, User]) -> str:
    """A hash for users that there are not: as costly as the others, so that time does not tell them apart."""
    for user in users.values():
        *head, salt, digest = user.phc.split("$")
        # the hash of nothing that can be typed: all ones
        return "$".join([*head, salt, "/" * len(digest.rstrip("=")[:-1]) + digest[-1]])
    return f"$argon2id$v=19$m={MEMORY},t={ITERATIONS},p={LANES}$" + "A" * 22 + "$" + "/" * 42 + "8"
