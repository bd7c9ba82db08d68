"""Keys on disk: one line, Base64 of 32 bytes, as `wg genkey` writes it. Keys in memory: wrapped, so none is shown."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from caetun.errors import ConfigurationError

if TYPE_CHECKING:
    from caetun.security.credentials import Credentials
    from caetun.settings import Settings

# chosen by us
_FILE_LIMIT: Final = 1 << 16
"""Bytes read of a key file: a key with its newline has 45, but it may be in a configuration file."""
_INLINE: Final = r'(?m)^private-key *= *"([A-Za-z0-9+/]{43}=)" *$'
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Secret:
    """32 secret bytes. Printing, logging or formatting it shows a fingerprint, by which two ends can be compared."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The bytes themselves."""
        return self._value

    @property
    def fingerprint(self) -> str:
        """8 hexadecimal digits: enough to notice a difference, useless for a search."""
        return hashlib.blake2s(self._value, person=b"caetunfp").hexdigest()[:8]

    def __repr__(self) -> str:
        return f"Secret({self.fingerprint})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that settings name: either `secret`, or `private` or `credentials`, and `peers` and perhaps `psk`."""

    secret: Secret | None
    private: Secret | None
    peers: tuple[bytes, ...]
    """Public keys of the far ends, 32 bytes each."""
    psk: Secret | None
    warnings: tuple[str, ...]
    """One line for each file that others can read."""
    credentials: Credentials | None = None
    """Certificates that this side shows."""

    @property
    def identity(self) -> bytes:
        """32 bytes that stand for this end, and are no secret: its public key, or the hash of the shared secret."""
        from caetun.session.identity import SecretIdentity, public_key

        if self.credentials is not None and self.private is None:
            from caetun.security.trust import Trust
            from caetun.session.engine import peer_id

            return peer_id("".join(Trust.names_of(self.credentials.chain[0])[:1]))
        if self.secret is not None:
            return SecretIdentity(self.secret.reveal()).target
        assert self.private is not None
        return public_key(self.private.reveal())


def load_keys(settings: Settings) -> Keys:
    """Read the key files that the settings name. Raises ConfigurationError."""
    warnings: list[str] = []

    def read(path: Path | None, inline: str = "") -> Secret | None:
        if path is None:
            return None
        within = inline if path == settings.config and path.suffix == ".conf" else ""
        secret, warning = read_key(path, within, own=inline == "PrivateKey")
        if warning and warning not in warnings:
            warnings.append(warning)
        return secret

    credentials = _credentials(settings)
    if credentials is not None:
        warnings += credentials.warnings
    secret, private = read(settings.secret_file), read(settings.key, "PrivateKey")
    psk = read(settings.peer_psk_file, "PresharedKey")
    return Keys(secret, private, tuple(peer.key for peer in settings.peer), psk, tuple(warnings), credentials)


def _credentials(settings: Settings) -> Credentials | None:
    if settings.cert is None or settings.cert_key is None:
        return None
    # Imported here: it loads what only certificates need.
    from caetun.security import credentials

    return credentials.load(settings.ca, settings.cert, settings.cert_key)


def read_key(path: Path, inline: str = "", own: bool = False) -> tuple[Secret, str | None]:
    """A key from its file, and a warning if others than the owner can read that. Raises ConfigurationError.

    `inline`: the key of a configuration file (`conffile`) that it is the value of; `own`: whether it is this end's
    private key, and not one that two ends share.
    """
    from caetun.session.identity import decode_key

    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_FILE_LIMIT)
        if inline:
            from caetun.conffile import inline_key

            content = (inline_key(path, inline) or "").encode()
    except OSError as error:
        make = f"make one with caetun {'genkey' if own else 'gensecret'} -o FILE"
        advice = make if isinstance(error, FileNotFoundError) else "check its mode"
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}: {advice}") from None
    try:
        text = content.decode()
        within = re.search(_INLINE, text)
        key = decode_key(within[1] if within else text.strip())
    except (UnicodeDecodeError, ConfigurationError):
        raise ConfigurationError(
            f"{path}: holds no key: expected one line, 32 bytes in Base64: make one with caetun genkey or gensecret"
        ) from None
    return Secret(key), _warning(path, mode)


def write_key(path: Path, text: str, replace: bool = False) -> None:
    """Write a key to a new file that only its owner can read; with `replace` also over a regular file.

    A replaced file is replaced at once: whoever reads it sees the old key or the new one. Raises ConfigurationError.
    """
    if replace and os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise ConfigurationError(f"{path}: not a regular file: will not replace it: choose another name")
    target = path.with_name(f".{path.name}.{os.getpid()}") if replace else path
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise ConfigurationError(f"{target}: exists: will not overwrite a key: use --force, or another name") from None
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(descriptor)
        if replace:
            target.replace(path)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{path}: cannot be written: {error.strerror}: choose another place")


def _warning(path: Path, mode: int) -> str | None:
    """What is wrong with a key file's mode; a pipe's or a terminal's says nothing."""
    if stat.S_ISREG(mode) and mode & _OTHERS:
        return f"{path}: other users can read this key (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}"
    return None
