"""`caetun genkey`, `pubkey` and `gensecret`: keys as one line of Base64, as WireGuard has them."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Final

from caetun.cli.flags import Parser
from caetun.errors import ConfigurationError
from caetun.keyfiles import write_key
from caetun.session.identity import decode_key, encode_key, generate_key, public_key

# chosen by us
_INPUT_LIMIT: Final = 4096
"""Characters read from standard input: a key with its newline has 45."""
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def genkey(argv: list[str]) -> int:
    """Print a new private key, or write it to a file."""
    return _generate(
        argv,
        Parser("caetun genkey", "Make a private key. Keep it on this host; `caetun pubkey` tells its public half."),
    )


def gensecret(argv: list[str]) -> int:
    """Print a new shared secret, or write it to a file."""
    return _generate(argv, Parser("caetun gensecret", "Make a secret for --secret-file. Both hosts need the same one."))


def pubkey(argv: list[str]) -> int:
    """Read a private key from standard input, print its public key."""
    Parser("caetun pubkey", "Read a private key from standard input, print its public key: caetun pubkey < FILE").read(
        argv
    )
    try:
        private = decode_key(sys.stdin.read(_INPUT_LIMIT))
    except (UnicodeDecodeError, ConfigurationError):
        raise ConfigurationError(
            "standard input: holds no key: expected one line, 32 bytes in Base64: caetun pubkey < KEYFILE"
        ) from None
    print(encode_key(public_key(private)))
    return 0


def _generate(argv: list[str], parser: Parser) -> int:
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write to a new file that only you can read")
    parser.add_argument("--force", action="store_true", help="replace the file if there is one")
    arguments = parser.read(argv)
    key = encode_key(generate_key(os.urandom))
    if arguments.output is not None:
        write_key(arguments.output, key, arguments.force)
        return 0
    if arguments.force:
        raise ConfigurationError("--force: there is no file to replace: give -o FILE too")
    if _others_can_read(sys.stdout.fileno()):
        print(
            f"{parser.prog}: other users can read the file this goes to: chmod 600 it, or use -o FILE", file=sys.stderr
        )
    print(key)
    return 0


def _others_can_read(descriptor: int) -> bool:
    """Whether output goes to a regular file with a lax mode, as a shell's `>` makes it."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISREG(mode) and bool(mode & _OTHERS)
