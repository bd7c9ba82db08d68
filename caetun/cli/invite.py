"""`caetun invite`, `caetun join` and `caetun expel`: one line lets a new host in, and one takes it out again."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from caetun.cli.flags import Parser
from caetun.errors import ConfigurationError, HostError

if TYPE_CHECKING:
    from caetun.endpoint import Endpoint
    from caetun.negotiation.invitation import Invitation
    from caetun.settings import Settings

# chosen by us
_EXPIRES: Final = "24h"
_SYSTEM: Final = Path("/etc/caetun")
_ELSEWHERE: Final = (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))
"""Documentation addresses: the way there is the default route, and nothing is sent."""

_INVITE: Final = """\
examples:
  caetun invite alice --config hub.toml
  caetun invite alice --config hub.toml --public hub.example:443 --expires 2h
"""


def invite(argv: list[str]) -> int:
    """Make an invitation and print it. Raises CaeTunError."""
    from caetun.negotiation.membership import Membership
    from caetun.options import REMOTE, duration
    from caetun.ports import parse_words
    from caetun.session.identity import generate_key, public_key
    from caetun.sources import load

    parser = Parser("caetun invite", "Print a line, good once, with which a host joins this hub.", epilog=_INVITE)
    parser.add_argument("name", metavar="NAME", help="of the new host")
    parser.add_argument("--config", metavar="FILE", required=True, help="the hub's configuration file")
    parser.add_argument("--public", metavar="ENDPOINT", action="append", help="where the hub is reached (repeatable)")
    parser.add_argument("--expires", metavar="TIME", default=_EXPIRES, help="good for so long (default 24h)")
    parser.add_argument("--words", metavar="WORD,...", default="", help="of the new host's port, see docs/switch.md")
    parser.add_argument("--no-qr", action="store_true", help="no QR code, only the line")
    arguments = parser.read(argv)
    flags: dict[str, object] = {"config": arguments.config}
    try:
        seconds: Any = duration(60, 2_592_000).parse(arguments.expires)
        parse_words([f"name={arguments.name}", *(word for word in arguments.words.split(",") if word)])
        given = [REMOTE.parse(text) for text in arguments.public or ()]
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    settings = load(flags, os.environ)
    if any(peer.port.name == arguments.name for peer in settings.peer):
        raise ConfigurationError(f"{arguments.name}: is a peer of {arguments.config} already: use another name")
    token = generate_key(os.urandom)
    identity, store = _hub(settings, arguments.config)
    invitation = _invitation(settings, identity, token, arguments.name, given)
    Membership(store).invite(public_key(token), arguments.name, arguments.words, time.time(), seconds)
    store.close()
    print(invitation)
    if sys.stdout.isatty() and not arguments.no_qr:
        import segno

        segno.make(str(invitation), error="l").terminal(compact=True)
    return 0


def _hub(settings: Settings, config: str) -> tuple[bytes, Any]:
    """The hub's public key and its store. Raises CaeTunError."""
    from caetun.daemon.outer import state_directory
    from caetun.keyfiles import load_keys
    from caetun.negotiation.store import Store, store_path

    if not settings.enrols:
        raise ConfigurationError(
            f'{config}: is not a hub that invites: that takes negotiation = "server", listen, key and a pool'
        )
    identity = load_keys(settings).identity
    return identity, Store(store_path(state_directory(os.environ, os.geteuid()), identity))


def _invitation(settings: Settings, hub: bytes, token: bytes, name: str, given: Sequence[Any]) -> Invitation:
    from caetun.negotiation.invitation import MAX_PLACES, Invitation
    from caetun.sources import with_schemes
    from caetun.types import Mode

    places = with_schemes(given, settings.transport) or settings.public or tuple(_guessed(settings.listen))
    if not places:
        raise ConfigurationError(
            "--public: it cannot be told where this hub is reached from outside: give --public HOST:PORT, "
            "or public = [...] in its file"
        )
    return Invitation(tuple(places)[:MAX_PLACES], hub, token, name, settings.mode or Mode.TUN)


def _guessed(listen: Sequence[Endpoint]) -> list[Endpoint]:
    """Where it listens; for every local address, the one that this host has towards the internet."""
    found: list[Endpoint] = []
    for where in listen:
        if not where.port:
            continue
        hosts = [where.host] if where.host not in ("", "0.0.0.0", "::") else _own_addresses()
        found += [where._replace(host=host) for host in hosts]
    return found


def _own_addresses() -> list[str]:
    addresses = []
    for target, family in _ELSEWHERE:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((target, 9))
                addresses.append(str(probe.getsockname()[0]))
            except OSError:
                continue
    return addresses


def expel(argv: list[str]) -> int:
    """Take a member away. Raises CaeTunError."""
    from caetun.negotiation.membership import Membership
    from caetun.sources import load

    parser = Parser("caetun expel", "Take away a host that has joined, or an open invitation.")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--config", metavar="FILE", required=True, help="the hub's configuration file")
    arguments = parser.read(argv)
    _, store = _hub(load({"config": arguments.config}, os.environ), arguments.config)
    found = Membership(store).expel(arguments.name)
    store.close()
    if not found:
        raise ConfigurationError(f"{arguments.name}: no such member: caetun show members tells who there is")
    return 0


def join(argv: list[str]) -> int:
    """Redeem an invitation, and write the configuration file for it. Raises CaeTunError."""
    from caetun.daemon.joiner import enrol
    from caetun.keyfiles import write_key
    from caetun.negotiation.invitation import parse_invitation
    from caetun.session.identity import generate_key, public_key

    parser = Parser("caetun join", "Join a hub by an invitation: writes a configuration file that only you can read.")
    parser.add_argument(
        "invitation", metavar="caetun://...", help="the line that `caetun invite` has printed; - reads it"
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: NAME.toml, of root in /etc/caetun")
    arguments = parser.read(argv)
    text = sys.stdin.readline() if arguments.invitation == "-" else arguments.invitation
    invitation = parse_invitation(text)
    path: Path = arguments.output or (_SYSTEM if os.geteuid() == 0 else Path()) / f"{invitation.name}.toml"
    if os.path.lexists(path):
        raise ConfigurationError(f"{path}: exists: will not overwrite it: use -o FILE")
    private = generate_key(os.urandom)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"{path.parent}: cannot be made: {error.strerror}: use -o FILE") from None
    # Written first: whoever is killed after the hub has said yes must not have lost the key.
    write_key(path, _client(invitation, private))
    try:
        enrol(invitation, public_key(private))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    print(f"{path} is all it takes: caetun --config {path}")
    return 0


def _client(invitation: Invitation, private: bytes) -> str:
    """A configuration file."""
    from caetun.session.identity import encode_key

    places = ", ".join(f'"{place}"' for place in invitation.places)
    return (
        f"# {invitation.name}: made by `caetun join`. It holds a private key: keep it to yourself.\n"
        f'mode = "{invitation.mode}"\n'
        f"connect = [{places}]\n"
        'negotiation = "server"\n'
        f'peer = ["{encode_key(invitation.hub)},name=hub"]\n'
        f'private-key = "{encode_key(private)}"'
    )
