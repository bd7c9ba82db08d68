"""`caetun pki init|issue|revoke`: a small certificate authority for --security tls."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Final

from caetun.cli.flags import Parser
from caetun.errors import ConfigurationError

# chosen by us
_MAX_DAYS: Final = 36_500

_EXAMPLES: Final = """\
examples:
  caetun pki init pki                 # pki/ca.crt, pki/ca.key, pki/crl.pem: keep ca.key away from the hosts
  caetun pki issue pki hub            # pki/hub.crt and pki/hub.key: copy both and ca.crt to the host
  caetun pki issue pki alice --days 90
  caetun pki revoke pki alice         # copy crl.pem to the hosts, and send their tunnels SIGHUP

  caetun --listen :4500 --security tls --ca ca.crt --cert hub.crt --cert-key hub.key --crl crl.pem --peer cn:alice
  caetun --connect hub.example:4500 --security tls --ca ca.crt --cert alice.crt --cert-key alice.key --peer cn:hub
"""


def main(argv: list[str]) -> int:
    """Do what is asked; returns the exit status. Raises ConfigurationError."""
    parser = Parser("caetun pki", "Keep a small certificate authority in a directory.", epilog=_EXAMPLES)
    parser.add_argument("action", choices=("init", "issue", "revoke"), help="make an authority, a certificate, revoke")
    parser.add_argument("directory", metavar="DIR", type=Path, help="where the authority is")
    parser.add_argument("name", metavar="NAME", nargs="?", help="of the authority (default: caetun), or the host")
    parser.add_argument(
        "--days", metavar="N", help="how long it is good (default: an authority 3650, a certificate 825)"
    )
    arguments = parser.read(argv)
    if arguments.action != "init" and arguments.name is None:
        raise ConfigurationError(f"NAME: not given: whom to {arguments.action} a certificate: see caetun pki --help")
    if arguments.action == "revoke" and arguments.days is not None:
        raise ConfigurationError("--days: what is revoked is revoked for ever: leave it away")
    print(_done(arguments.action, arguments.directory, arguments.name, _days(arguments.days)))
    return 0


def _days(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not 1 <= int(text) <= _MAX_DAYS:
        raise ConfigurationError(f"--days: {text!r} is not a number of days: give 1..{_MAX_DAYS}")
    return int(text)


def _done(action: str, directory: Path, name: str | None, days: int | None) -> str:
    """Do it; returns what was done, in one line."""
    # Imported here: the help is shown without loading a library of cryptography.
    from caetun.security.pki import CA_DAYS, DAYS, Authority

    authority = Authority(directory, lambda: datetime.datetime.now(datetime.UTC))
    if action == "init":
        return f"made an authority: {authority.create(name or 'caetun', days or CA_DAYS)}"
    assert name is not None
    if action == "issue":
        certificate, key = authority.issue(name, days or DAYS)
        return f"issued {certificate} with its key {key}"
    return f"revoked {name}: {authority.revoke(name)}"
