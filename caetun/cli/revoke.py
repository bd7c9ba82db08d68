"""`caetun revoke NAME`: shuts a user or peer out of a running tunnel."""

from __future__ import annotations

from caetun.cli.flags import Parser
from caetun.cli.show import find, question
from caetun.errors import ConfigurationError


def main(argv: list[str]) -> int:
    """Shut somebody out; returns the exit status. Raises CaeTunError."""
    parser = Parser(
        "caetun revoke",
        "End the session of a user or peer, and let it in no more while the tunnel runs. To keep it out for good, take "
        "it out of the files too: caetun passwd FILE NAME --delete, caetun pki revoke DIR NAME, or its --peer.",
    )
    parser.add_argument("name", metavar="NAME", help="of a user, or of a peer as caetun show peers tells it")
    parser.add_argument("--dev", metavar="NAME", help="the tunnel's device, if several tunnels run")
    arguments = parser.read(argv)
    (row,) = question(find(arguments.dev), {"revoke": arguments.name})["rows"]
    if not row["sessions"]:
        raise ConfigurationError(f"{arguments.name}: is not here: from now on it will not be let in")
    print(f"{arguments.name}: shut out, {row['sessions']} session(s) ended")
    return 0
