"""A small authority, and what two hosts need of it: certificates for tests of whole programs."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from caetun.lab import Host
from caetun.security.pki import Authority
from tests.tunnel.ends import write


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Pki:
    """An authority in a directory of its own, which goes when it does."""

    def __init__(self, clock: Callable[[], datetime.datetime] = now) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.path = Path(self._directory.name)
        self.authority = Authority(self.path, clock)
        self.authority.create("a test authority")

    def issue(self, name: str, days: int = 2) -> None:
        self.authority.issue(name, days)

    def read(self, name: str) -> str:
        return (self.path / name).read_text()

    def give(self, host: Host, name: str, peer: str, *, crl: bool = False) -> list[str]:
        """Put the files of `name` into a host; returns the arguments with which it talks to `peer`."""
        files = {"ca": "ca.crt", "cert": f"{name}.crt", "cert-key": f"{name}.key"}
        if crl:
            files["crl"] = "crl.pem"
        arguments = ["--security", "tls", "--peer", f"cn:{peer}"]
        for flag, file in files.items():
            arguments += [f"--{flag}", write(host, f"/run/{file}", self.read(file))]
        return arguments


def certificate_arguments(hosts: Sequence[Host]) -> list[list[str]]:
    """New certificates for two hosts, "one" and "other" (a `KeyMaker`)."""
    pki = Pki()
    for name in ("one", "other"):
        pki.issue(name)
    return [pki.give(hosts[0], "one", "other"), pki.give(hosts[1], "other", "one")]
