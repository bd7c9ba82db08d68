"""`caetun [run]`: settings from flags and file, then a tunnel until a signal ends it."""

from __future__ import annotations

import os

from caetun import __version__
from caetun.cli.flags import Parser, add_options, given
from caetun.cli.main import COMMANDS
from caetun.sources import load

_EXAMPLES = """\
examples:
  caetun gensecret -o s.key                                  # copy s.key to the other host
  caetun --listen :4500 --secret-file s.key --address 10.0.0.1/24
  caetun --connect hub.example:4500 --secret-file s.key --address 10.0.0.2/24
  caetun --mode tap --dev tap0 --connect hub.example:4500 --key my.key --peer PUBKEY
  caetun --connect hub.example:443 --secret-file s.key --address 10.0.0.2/24 --gateway --dns 9.9.9.9
  caetun --config /etc/caetun.toml

commands:
{commands}

Each command has its own --help. docs/configuration.md explains every option, exit statuses and signals.
"""


def main(argv: list[str]) -> int:
    """Run a tunnel; returns the exit status. Raises CaeTunError."""
    settings = load(given(_parser().read(argv)), os.environ)
    # Imported after the settings have proved sound: a mistyped flag is told at once.
    from caetun.daemon.run import run

    return run(settings)


def _parser() -> Parser:
    commands = "\n".join(f"  {name:<10} {command.purpose}" for name, command in COMMANDS.items())
    parser = Parser(
        "caetun",
        "Carry IP packets or Ethernet frames between two hosts, sealed end to end.",
        "caetun [COMMAND] [OPTIONS]",
        _EXAMPLES.format(commands=commands),
    )
    parser.add_argument(
        "--version", action="version", version=f"caetun {__version__}", help="print the version and exit"
    )
    add_options(parser)
    return parser
