"""`command`: a program decides. It reads one JSON object from standard input, and answers by its exit status.

    in    {"version": 1, "user": "alice", "password": "...", "code": "...", "address": "192.0.2.7",
           "key": "<Base64 of the peer's key>", "certificate": "<Base64 of DER, or empty>"}
    out   nothing, or {"user": "alice"} with the name by which the peer is to be known
    exit  0: accepted    1: refused    anything else, a signal, or no end within 10 s: out of order, refused

What it writes to standard error goes into our log, a line at most. It is run without a shell, in a bare environment.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from caetun.auth.base import CODE, PASSWORD, USER, WRONG, Claim, Denied
from caetun.auth.users import NAME
from caetun.errors import ConfigurationError
from caetun.wire.authentication import Field

# fixed by the specification
VERSION: Final = 1
REFUSED: Final = 1

# chosen by us
TIMEOUT: Final = 10.0
"""Seconds."""
MAX_OUTPUT: Final = 4096
"""Bytes of each of its outputs; more ends it."""
_MAX_NOTE: Final = 200
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OUT_OF_ORDER: Final = "the authentication of this hub is out of order"


class Command:
    """Agrees if the program does."""

    name = "command"
    fields: Sequence[Field] = (USER, PASSWORD, CODE)

    def __init__(self, path: Path, fields: Sequence[Field] = (USER, PASSWORD), timeout: float = TIMEOUT) -> None:
        """`fields`: what to ask the peer for. Raises ConfigurationError if the program cannot be run."""
        if not path.is_file() or not os.access(path, os.X_OK):
            raise ConfigurationError(f"{path}: cannot be run: name a program, with the whole path: chmod +x {path}")
        self._path = path.resolve()
        self._timeout = timeout
        self.fields = fields

    def check(self, claim: Claim) -> str:
        """See `Method`."""
        question = {
            "version": VERSION,
            **{each.name: claim.values.get(each.name, "") for each in (USER, PASSWORD, CODE)},
            "address": claim.address,
            "key": base64.b64encode(claim.key).decode(),
            "certificate": base64.b64encode(claim.certificate).decode(),
        }
        if claim.user:
            question["user"] = claim.user
        status, output, note = self._run(json.dumps(question).encode() + b"\n")
        if status == REFUSED:
            raise Denied(WRONG, f"the command refuses{': ' if note else ''}{note}")
        if status != 0:
            raise Denied(OUT_OF_ORDER, f"{self._path}: {_ending(status)}{': ' if note else ''}{note}")
        return self._user(output, claim)

    def _user(self, output: bytes, claim: Claim) -> str:
        given = claim.user or claim.values.get(USER.name, "")
        if output.strip():
            try:
                shape = json.loads(output)
                given = shape.get("user", given)
            except (ValueError, AttributeError, RecursionError):
                raise Denied(OUT_OF_ORDER, f"{self._path}: says something else than JSON with a user") from None
        if not isinstance(given, str) or not NAME.fullmatch(given):
            raise Denied(WRONG, f"{self._path}: accepts somebody without a proper name")
        return given

    def _run(self, question: bytes) -> tuple[int | None, bytes, str]:
        """Exit status (None: it took too long, or said too much), output, and what it has to say."""
        try:
            process = subprocess.Popen(
                [self._path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": _PATH, "LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            return None, b"", error.strerror or "cannot be run"
        try:
            outputs = _exchange(process, question, time.monotonic() + self._timeout)
        finally:
            # it, and whatever it has started
            _kill(process)
        if outputs is None:
            return None, b"", ""
        note = outputs[1].decode("utf-8", "replace").strip().partition("\n")[0]
        return process.returncode, outputs[0], "".join(c if c.isprintable() else "?" for c in note[:_MAX_NOTE])


def _exchange(process: subprocess.Popen[bytes], question: bytes, deadline: float) -> tuple[bytes, bytes] | None:
    """Hand in the question, and read both outputs to their ends; None if they are too long, or take too long."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    found = {process.stdout: b"", process.stderr: b""}
    rest = question
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdin, selectors.EVENT_WRITE)
        for output in found:
            selector.register(output, selectors.EVENT_READ)
        while len(selector.get_map()):
            ready = selector.select(deadline - time.monotonic())
            if time.monotonic() >= deadline:
                return None
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    rest = _feed(process, rest)
                    if not rest:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                data = os.read(key.fd, MAX_OUTPUT)
                output = process.stdout if key.fileobj is process.stdout else process.stderr
                found[output] += data
                if len(found[output]) > MAX_OUTPUT:
                    return None
                if not data:
                    selector.unregister(output)
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None
    return found[process.stdout], found[process.stderr]


def _feed(process: subprocess.Popen[bytes], rest: bytes) -> bytes:
    """Write some; returns what is left. A program need not read what it is given."""
    assert process.stdin is not None
    try:
        return rest[os.write(process.stdin.fileno(), rest) :]
    except BlockingIOError:
        return rest
    except BrokenPipeError:
        return b""


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _ending(status: int | None) -> str:
    if status is None:
        return f"took longer than {TIMEOUT:g} s, or said more than {MAX_OUTPUT} bytes"
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
