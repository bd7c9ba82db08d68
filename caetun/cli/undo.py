"""`caetun undo [DEV]`: undo what tunnels that were killed have changed of this host."""

from __future__ import annotations

from caetun.cli.flags import Parser
from caetun.errors import HostError

_EXPLANATION = """\
A tunnel that changes its host (--gateway, --kill-switch, --dns, --masquerade) undoes that when it ends. After SIGKILL
the next start of a tunnel does, or this command. It may be run at any time, and twice.
"""


def main(argv: list[str]) -> int:
    """Print what was undone, a line for each change; returns the exit status. Raises CaeTunError."""
    parser = Parser("caetun undo", "Undo what a tunnel that was killed has left on this host.", epilog=_EXPLANATION)
    parser.add_argument("device", metavar="DEV", nargs="?", help="the tunnel's device; without: of all that do not run")
    arguments = parser.read(argv)
    from caetun.gateway.repair import left_behind, repair

    devices = [arguments.device] if arguments.device else left_behind()
    failed: list[str] = []
    something = False
    for device in devices:
        repaired = repair(device)
        something = something or bool(repaired.lines)
        for line in repaired.lines:
            print(f"{device}: undone: {line}")
        if repaired.running and not arguments.device:
            continue
        failed += [f"{device}: {problem}" for problem in repaired.problems]
    if failed:
        raise HostError("; ".join(failed))
    if not something:
        print("nothing to undo")
    return 0
