"""iperf3 between two hosts of a Lab: TCP with a congestion control of one's choice, several streams, both ways."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from caetun.lab import Host

# chosen by us
_PORT: Final = "5201"
_PATIENCE: Final = 30.0
"""Seconds beyond the time it sends that it may take."""


class Flow(NamedTuple):
    """What all streams of one direction carried together."""

    rate: float
    """Bits per second received."""
    retransmits: int


def iperf(sender: Host, receiver: Host, address: str, seconds: float, options: Sequence[str] = ()) -> list[Flow]:
    """Send TCP to `address`, which is the receiver's; one flow, or two with the option `--bidir` (the way back second).

    Fails if a connection breaks.
    """
    server = receiver.spawn(
        ["iperf3", "--server", "--one-off", "--port", _PORT, "--bind", address, "--forceflush"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert server.stdout is not None
    with server.stdout as said:
        while b"listening" not in (line := said.readline()):
            assert line, "iperf3 does not start"
        command = ["iperf3", "--client", address, "--port", _PORT, "--time", str(seconds), "--json", *options]
        result: dict[str, Any] = json.loads(sender.run(command, timeout=seconds + _PATIENCE))
        said.read()
    assert server.wait() == 0
    assert "error" not in result, result["error"]
    end = result["end"]
    return [
        Flow(end[f"sum_received{way}"]["bits_per_second"], end[f"sum_sent{way}"]["retransmits"])
        for way in ("", "_bidir_reverse")
        if f"sum_received{way}" in end
    ]
