"""`caetun passwd FILE USER`: sets a user's password in a file, and the secret of one-time codes."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from caetun.cli.flags import Parser
from caetun.errors import ConfigurationError

if TYPE_CHECKING:
    from caetun.auth.users import User

_EXAMPLES: Final = """\
examples:
  caetun passwd users alice               # asks twice, and makes the file if there is none
  caetun passwd users alice --totp        # the same, and prints a secret for one-time codes
  caetun passwd users alice --delete      # then send the tunnel SIGHUP
  echo "$PASSWORD" | caetun passwd users alice --stdin
"""


def main(argv: list[str]) -> int:
    """Change one line of the file; returns the exit status. Raises ConfigurationError."""
    parser = Parser("caetun passwd", "Keep a file of users for --auth password.", epilog=_EXAMPLES)
    parser.add_argument("file", metavar="FILE", type=Path, help="as given to --users")
    parser.add_argument("user", metavar="USER", help="whose password")
    parser.add_argument("--totp", action="store_true", help="make a new secret for one-time codes, and print it")
    parser.add_argument("--delete", action="store_true", help="take the user out of the file")
    parser.add_argument("--stdin", action="store_true", help="read the password from standard input")
    arguments = parser.read(argv)
    # Imported here: the help is shown without loading a library of cryptography.
    from caetun.auth.users import FILE_LIMIT, NAME, read_users
    from caetun.security.credentials import read, write_private

    path, name = arguments.file, arguments.user
    if not NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r}: cannot be a user's name: use 1 to 64 letters, digits, '.', '-', '_', '@'")
    if arguments.delete and (arguments.totp or arguments.stdin):
        raise ConfigurationError("--delete: goes with neither --totp nor --stdin: leave them away")
    there = path.exists()
    users = read_users(path)[0] if there else {}
    if arguments.delete and name not in users:
        raise ConfigurationError(f"{path}: there is no {name}: nothing was changed")
    line = None if arguments.delete else _line(arguments, users)
    content = read(path, "check its mode", FILE_LIMIT).decode() if there else ""
    write_private(path, with_line(content, line, name).encode(), replace=True)
    return 0


def with_line(content: str, line: str | None, name: str) -> str:
    """A file's content with this user's line replaced or added, or taken away (None)."""
    kept = [each for each in content.splitlines() if each.startswith("#") or each.partition(":")[0].strip() != name]
    return "".join(f"{each}\n" for each in [*kept, *([] if line is None else [line])])


def _line(arguments: argparse.Namespace, users: Mapping[str, User]) -> str:
    """The user's new line."""
    from caetun.auth.totp import SECRET_SIZE, encode_secret, uri
    from caetun.auth.users import User, hash_password

    name = arguments.user
    password = _password(arguments.stdin, name)
    secret = users[name].secret if name in users else None
    if arguments.totp:
        secret = os.urandom(SECRET_SIZE)
        print(f"secret {encode_secret(secret)}\n{uri(secret, name)}")
    return User(name, hash_password(password, os.urandom), secret).line()


def _password(from_input: bool, name: str) -> str:
    from caetun.auth.users import MAX_PASSWORD

    if from_input:
        password = sys.stdin.readline(MAX_PASSWORD + 2).rstrip("\n")
    else:
        if not sys.stdin.isatty():
            raise ConfigurationError("standard input is no terminal: give the password by --stdin")
        password = getpass.getpass(f"password for {name}: ")
        if getpass.getpass("once more: ") != password:
            raise ConfigurationError("the two passwords differ: nothing was changed")
    if not 1 <= len(password) <= MAX_PASSWORD:
        raise ConfigurationError(f"a password has 1 to {MAX_PASSWORD} characters: nothing was changed")
    return password
