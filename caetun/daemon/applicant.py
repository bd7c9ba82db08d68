"""The side that is asked who it is: answers from a file of credentials, or by asking the person at the terminal.

# /etc/caetun/alice.credentials, mode 600
user = "alice"
password = "..."
totp-secret = "JBSWY3DP..."        # optional: codes are then computed; give it away only where nobody types
"""

from __future__ import annotations

import base64
import logging
import os
import stat
import threading
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from caetun import logs
from caetun.daemon.terminal import Terminal
from caetun.errors import AuthenticationRefused, CaeTunError, ConfigurationError
from caetun.wire.authentication import Accepted, Ask, Denied, Field, Message, Reply

if TYPE_CHECKING:
    from caetun.daemon.worker import Worker
    from caetun.keyfiles import Keys
    from caetun.peers import Peer

# chosen by us
_FILE_LIMIT: Final = 64 * 1024
MOST_WAITS: Final = 2
"""For the next one-time code: more are needed only where somebody turns the clock back."""
_KEYS: Final = ("user", "password", "totp-secret")

log = logs.logger("auth")


class Applicant:
    """Answers questions of the far ends that we call."""

    def __init__(
        self,
        path: Path | None,
        keys: Keys,
        own: bytes,
        worker: Worker,
        say: Callable[[Peer, Message], None],
        failed: Callable[[CaeTunError], None],
    ) -> None:
        """`path`: the file of credentials; `own`: what the far end knows us by, 32 bytes; `failed`: ends the tunnel.

        Raises ConfigurationError."""
        self._path = path
        self._keys = keys
        self._own = own
        self._worker = worker
        self._say = say
        self._failed = failed
        self._terminal = Terminal()
        self._step = -1
        """Of the code used last, see `_code`."""
        self._codes = threading.Lock()
        if path is not None:
            warning = read_credentials(path)[1]
            if warning:
                logs.event(log, logging.WARNING, "key.readable", warning)

    def heard(self, peer: Peer, message: Message) -> None:
        """A far end that we call has something to say about who we are."""
        match message:
            case Ask():
                self._worker.submit(lambda: self._answer(peer, message), lambda outcome: self._answered(peer, outcome))
            case Accepted(user):
                who = f"accepted as {user}" if user else "accepted"
                logs.event(log, logging.INFO, "auth.accepted", who, peer=peer.name, user=user)
            case Denied(why):
                self._failed(AuthenticationRefused(f"authentication refused: {why}"))

    def close(self) -> None:
        """Nobody is asked any more."""
        self._terminal.restore()

    def _answered(self, peer: Peer, outcome: Reply | Exception) -> None:
        match outcome:
            case CaeTunError():
                self._failed(outcome)
            case Exception():
                raise outcome
            case _:
                self._say(peer, outcome)

    # in a thread

    def _answer(self, peer: Peer, ask: Ask) -> Reply:
        given = {} if self._path is None else read_credentials(self._path)[0]
        values: dict[str, str] = {}
        missing: list[Field] = []
        for field in ask.fields:
            if field.name == "code" and "totp-secret" in given:
                values["code"] = self._code(given["totp-secret"])
            elif field.name in ("certificate", "signature"):
                values.update(self._signature(peer, ask))
            elif field.name in given:
                values[field.name] = given[field.name]
            else:
                missing.append(field)
        if missing:
            values.update(self._terminal.ask(peer.name, missing))
        return Reply(ask.nonce, values)

    def _code(self, secret: str) -> str:
        """The code of now, or if that was used, the one after it: each is good once. Waits for up to 60 s."""
        from caetun.auth.totp import STEP, decode_secret, totp

        try:
            key = decode_secret(secret)
        except ValueError as error:
            raise ConfigurationError(f"{self._path}: totp-secret {error}: copy it again") from None
        with self._codes:
            now = time.time()
            for _ in range(MOST_WAITS):
                if int(now) // STEP > self._step:
                    break
                pause = STEP - now % STEP
                words = f"the code of now was used already: the next one is in {pause:.0f} s"
                logs.event(log, logging.INFO, "auth.waiting", words)
                time.sleep(pause)
                now = time.time()
            self._step = int(now) // STEP
            return totp(key, now)

    def _signature(self, peer: Peer, ask: Ask) -> Mapping[str, str]:
        """Our certificates, and that the key of this session is ours. Raises ConfigurationError."""
        credentials = self._keys.credentials
        if credentials is None:
            raise ConfigurationError("--cert: the far end asks for a certificate: give --cert and --cert-key")
        from caetun.auth.certificate import encode_chain, sign, signed
        from caetun.security.credentials import read_private_key

        message = signed(ask.nonce, peer.ident, self._own)
        signature = sign(read_private_key(credentials.key_file), message)
        return {"certificate": encode_chain(credentials.chain), "signature": base64.b64encode(signature).decode()}


def read_credentials(path: Path) -> tuple[dict[str, str], str | None]:
    """What is in a file of credentials, and a warning if others can read it. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = tomllib.loads(file.read(_FILE_LIMIT).decode())
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}: check --credentials") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        # The words of the parser may show what is in the file.
        raise ConfigurationError(f'{path}: is not TOML: write lines like user = "alice"') from None
    for key, value in content.items():
        if key not in _KEYS or not isinstance(value, str):
            raise ConfigurationError(f"{path}: {key}: not known, or not in quotes: known are {', '.join(_KEYS)}")
    warning = None
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        shown = f"{stat.S_IMODE(mode):04o}"
        warning = f"{path}: other users can read these credentials (mode {shown}): chmod 600 {path}"
    return content, warning
