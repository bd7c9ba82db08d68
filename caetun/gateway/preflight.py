"""Whether a host can do what is wished, before anything of it is changed: one line for each thing that is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from caetun.errors import NetworkError
from caetun.gateway import dns, kernel
from caetun.gateway.changes import Change, ResolvConf, ResolvedLink, Route, Rule, Ruleset, Sysctl
from caetun.gateway.plan import TABLE, Facts

# fixed by the kernel's interface (include/uapi/linux/capability.h)
_CAP_NET_ADMIN: Final = 12

_STATUS: Final = Path("/proc/thread-self/status")


def look_around() -> Facts:
    """What a plan has to know of this host."""
    servers = dns.servers_in(dns.RESOLV_CONF)
    resolved = dns.RESOLVED.exists()
    return Facts(
        ipv6=_sysctl("net/ipv6/conf/all/disable_ipv6") == "0",
        routers_heard=tuple(
            path.parent.name
            for path in sorted((kernel.SYSCTLS / "net/ipv6/conf").glob("*/accept_ra"))
            if path.parent.name not in ("all", "default", "lo") and path.read_text().strip() == "1"
        ),
        resolved=resolved,
        resolv_conf=not resolved or not dns.STUBS.issuperset(servers),
    )


def missing(plan: Sequence[Change]) -> list[str]:
    """What this host or process lacks for a plan, in one line each; [] if it can be carried out."""
    found: list[str] = []
    if not _may_administer():
        found.append(
            "changing routes, rules and sysctls needs root or CAP_NET_ADMIN: run as root, or give the capability"
        )
    for change in plan:
        match change:
            case Sysctl():
                found += _unwritable(change)
            case Ruleset() if _may_administer() or kernel.find_nft() is None:
                found += _refused(change)
            case ResolvConf() if not os.access(dns.RESOLV_CONF.parent, os.W_OK):
                found.append(f"{dns.RESOLV_CONF.parent} cannot be written to: name servers cannot be set: run as root")
            case ResolvedLink() if shutil.which("resolvectl") is None:
                found.append(
                    "the program `resolvectl` is not installed, but systemd-resolved runs: install its package"
                )
            case _:
                pass
    if _may_administer() and any(isinstance(change, Route | Rule) for change in plan):
        found += _routing_refused()
    return list(dict.fromkeys(found))


def table_taken() -> str:
    """Why our routing table cannot be used, in one line; "" if it can."""
    if kernel.table_in_use(TABLE):
        return f"routing table {TABLE} has routes that are not ours: remove them (ip route flush table {TABLE})"
    return ""


def _routing_refused() -> list[str]:
    try:
        kernel.table_in_use(TABLE)
    except NetworkError as error:
        return [f"{error}: policy routing (CONFIG_IP_MULTIPLE_TABLES) is needed"]
    return []


def _may_administer() -> bool:
    """Whether this thread has CAP_NET_ADMIN (proc_pid_status(5))."""
    for line in _STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> _CAP_NET_ADMIN & 1)
    return False


def _unwritable(change: Sysctl) -> list[str]:
    if _sysctl(change.name) in ("", change.value) or os.access(kernel.SYSCTLS / change.name, os.W_OK):
        return []
    name = change.name.replace("/", ".")
    return [f"{name} cannot be set here (a container?): set it from outside: sysctl -w {name}={change.value}"]


def _refused(change: Ruleset) -> list[str]:
    try:
        kernel.load_ruleset(change, check=True)
    except NetworkError as error:
        return [str(error)]
    return []


def _sysctl(name: str) -> str:
    """The value of a setting, "" if there is no such setting."""
    try:
        return (kernel.SYSCTLS / name).read_text().strip()
    except OSError:
        return ""


def firewalls_in_the_way(device: str) -> list[str]:
    """What of this host's own firewall may drop what is forwarded, with what to do about it; [] if nothing is seen.

    nftables asks every chain at a hook: ours cannot let through what another one drops (nft(8), "Verdict statements").
    """
    found: list[str] = []
    for family, table, chain in kernel.dropping_chains():
        allow = f"nft insert rule {family} {table} {chain}"
        found.append(
            f"the firewall's chain {family} {table} {chain} drops what it does not know; let the tunnel through: "
            f"{allow} iifname {device} accept; {allow} oifname {device} ct state established,related accept"
        )
    return found
