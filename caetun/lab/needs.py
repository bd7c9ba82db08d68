"""What this machine lacks for a scenario, in one line each: the reason a test is skipped or the demo cannot run."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable

from caetun.lab.namespaces import in_empty_network, program_path

_RANDOM_LOSS = """
table netdev lab {
    chain probe {
        type filter hook ingress device lo priority 0;
        numgen random mod 100 < 3 drop
    }
}
"""

_STATEFUL = """
table inet lab {
    chain probe {
        type filter hook prerouting priority 0;
        ct state invalid reject with tcp reset
        ct packets > 1 ct mark set 1
    }
    chain leave {
        type nat hook postrouting priority 100;
        masquerade fully-random
    }
}
"""


def needs(*features: str) -> str:
    """Return why the first missing one of `features` is missing, or "" when all are there.

    A feature is `root`, `namespaces`, `tun`, `loss` (nftables), `firewall` (nftables with connection tracking and NAT),
    `rate` (tbf), `offload` (ethtool), or the name of a program.
    """
    return next((reason for feature in features if (reason := _lacks(feature))), "")


@functools.cache
def _lacks(feature: str) -> str:
    return _PROBES.get(feature, lambda: _program(feature))()


def _program(name: str) -> str:
    return "" if shutil.which(name, path=program_path()) else f"the program `{name}` is not installed"


def _root() -> str:
    return "" if os.geteuid() == 0 else "needs root"


def _namespaces() -> str:
    if os.geteuid() != 0:
        return "network namespaces need root, or root of a user namespace (unshare -Ur)"
    try:
        in_empty_network(lambda: None)
    except OSError as error:
        return f"the kernel refuses network namespaces ({error.strerror}): a container needs --privileged"
    return ""


def _tun() -> str:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return (
            f"cannot open /dev/net/tun ({error.strerror}): run as root, or let root do `modprobe tun` and"
            " `chmod 666 /dev/net/tun`, its usual mode"
        )
    return ""


def _loss() -> str:
    return _namespaces() or _attempt(["nft", "-f", "-"], _RANDOM_LOSS)


def _firewall() -> str:
    return _namespaces() or _attempt(["nft", "-f", "-"], _STATEFUL)


def _rate() -> str:
    return _namespaces() or _attempt(
        ["tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "1mbit", "burst", "16k", "latency", "50ms"], ""
    )


def _offload() -> str:
    return _namespaces() or _attempt(["ethtool", "-k", "lo"], "")


def _attempt(command: list[str], text: str) -> str:
    """Try `command` in an empty network with `text` as its input; return what is wrong."""
    if missing := _program(command[0]):
        return missing
    environment = {**os.environ, "PATH": program_path()}
    result = in_empty_network(
        lambda: subprocess.run(command, input=text, text=True, capture_output=True, env=environment, check=False)
    )
    if result.returncode == 0:
        return ""
    complaint = result.stderr.strip().partition("\n")[0]
    return f"`{command[0]}` does not work here: {complaint or f'exit status {result.returncode}'}"


_PROBES: dict[str, Callable[[], str]] = {
    "root": _root,
    "namespaces": _namespaces,
    "tun": _tun,
    "loss": _loss,
    "firewall": _firewall,
    "rate": _rate,
    "offload": _offload,
}
