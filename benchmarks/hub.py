"""A hub between two far ends, beside the tunnel from one of them to the hub: three processes on the cores of two.

    benchmarks/hub.py [--seconds 2] [--rounds 5] [--carrier udp] [--mode tap]        (root, iperf3)

One TCP stream from the first far end to the second, then to the hub, in turn. Printed are medians and their ratio.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from caetun.lab import Host, Lab
from caetun.session.identity import public_key

# chosen by us
PATIENCE: Final = 20.0
"""Seconds for the tunnel to come up."""
SOURCES: Final = str(Path(__file__).parents[1])


def keyed(host: Host) -> str:
    """Give a host a private key; returns the public one."""
    private = os.urandom(32)
    host.inside(lambda: Path("/run/key").write_bytes(base64.b64encode(private) + b"\n"))
    return base64.b64encode(public_key(private)).decode()


def tunnel(host: Host, mode: str, *arguments: str) -> subprocess.Popen[bytes]:
    """One end, with the key that `keyed` has made."""
    common = ["--mode", mode, "--dev", "cae0", "--key", "/run/key", "--log-level", "error"]
    environment = [f"PYTHONPATH={SOURCES}", "RUNTIME_DIRECTORY=/run", "STATE_DIRECTORY=/run"]
    return host.spawn(["env", *environment, sys.executable, "-m", "caetun", *common, *arguments])


def wait_until_reached(host: Host, address: str) -> None:
    """Until a ping is answered."""
    deadline = time.monotonic() + PATIENCE
    while host.spawn(
        ["ping", "-c", "1", "-W", "1", address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ).wait():
        if time.monotonic() > deadline:
            sys.exit(f"{address} does not answer within {PATIENCE:g} s")
        time.sleep(0.05)


def rate(sender: Host, receiver: Host, address: str, seconds: float) -> float:
    """Mbit/s of one TCP stream."""
    server = receiver.spawn(["iperf3", "-s", "-1", "-B", address], stdout=subprocess.DEVNULL)
    time.sleep(0.2)
    result = json.loads(sender.run(["iperf3", "-c", address, "-t", str(seconds), "-J"]))
    server.wait()
    return float(result["end"]["sum_received"]["bits_per_second"]) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--carrier", default="udp")
    parser.add_argument("--mode", default="tap", choices=("tap", "tun"))
    options = parser.parse_args()
    with Lab() as lab:
        hub, *ends = (lab.host(name, private=["/run"]) for name in ("hub", "one", "other"))
        public = [keyed(host) for host in (hub, *ends)]
        said = [
            f"{key},name=end{n}" + f",allowed=10.88.0.{n + 2}" * (options.mode == "tun")
            for n, key in enumerate(public[1:])
        ]
        running = [
            tunnel(
                hub,
                options.mode,
                *("--listen", f"{options.carrier}://:4500", "--address", "10.88.0.1/24"),
                *("--peer", said[0], "--peer", said[1]),
            )
        ]
        for number, end in enumerate(ends):
            lab.link(hub, end, left=[f"10.99.{number}.1/24"], right=[f"10.99.{number}.2/24"])
            where = f"{options.carrier}://10.99.{number}.1:4500"
            address = f"10.88.0.{number + 2}/24"
            running.append(tunnel(end, options.mode, "--connect", where, "--peer", public[0], "--address", address))
        for end in ends:
            wait_until_reached(end, "10.88.0.1")
        wait_until_reached(ends[0], "10.88.0.3")
        through, direct = [], []
        for _ in range(options.rounds):
            through.append(rate(ends[0], ends[1], "10.88.0.3", options.seconds))
            direct.append(rate(ends[0], hub, "10.88.0.1", options.seconds))
        for process in running:
            process.terminate()
            process.wait()
    one, other = statistics.median(through), statistics.median(direct)
    print(
        f"{options.mode} by {options.carrier}: {one:,.0f} Mbit/s through the hub, {other:,.0f} to it: {one / other:.2f}"
    )


if __name__ == "__main__":
    main()
