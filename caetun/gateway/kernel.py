"""Routes, rules, sysctls and nftables: how each is made, looked at, and undone.

Making what is there already, and undoing what is gone, are no errors: after a crash nobody knows how far it came.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

from caetun.errors import NetworkError
from caetun.gateway.changes import Route, Rule, Ruleset, Sysctl
from caetun.netlink import load_pyroute2

# fixed by the kernel's interface
_FIB_RULE_INVERT: Final = 0x2
"""include/uapi/linux/fib_rules.h"""
_THERE: Final = frozenset((errno.EEXIST,))
_GONE: Final = frozenset((errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL))
_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
SYSCTLS: Final = Path("/proc/sys")

# chosen by us
_NFT_SECONDS: Final = 10.0
"""For nft to end; it takes some milliseconds."""


# routes and rules


def add_route(route: Route) -> None:
    """Make a route. Raises NetworkError."""
    with _netlink(str(route), _THERE) as netlink:
        netlink.route("add", **_route(route))


def delete_route(route: Route) -> bool:
    """Undo a route; returns whether it was there. Raises NetworkError."""
    try:
        wanted = _route(route)
    except NetworkError:
        return False  # routes go with their device
    with _netlink(str(route), _GONE) as netlink:
        netlink.route("del", **wanted)
        return True
    return False


def add_rule(rule: Rule) -> None:
    """Make a rule. Raises NetworkError."""
    with _netlink(str(rule), _THERE) as netlink:
        netlink.rule("add", **_rule(rule))


def delete_rule(rule: Rule) -> bool:
    """Undo a rule; returns whether it was there. Raises NetworkError."""
    with _netlink(str(rule), _GONE) as netlink:
        netlink.rule("del", **_rule(rule))
        return True
    return False


def table_in_use(table: int) -> bool:
    """Whether a routing table has routes. Raises NetworkError if this kernel has no such tables."""
    with _netlink(f"table {table}", frozenset()) as netlink:
        families = (socket.AF_INET, socket.AF_INET6)
        return any(netlink.get_routes(table=table, family=family) for family in families)
    return False


def leads_to(address: str) -> str:
    """The device by which packets to an address leave; "" if none does."""
    family = _FAMILY[ip_address(address).version]
    with contextlib.suppress(NetworkError), _netlink(address, frozenset()) as netlink:
        (found,) = netlink.route("get", dst=address, family=family)
        return socket.if_indextoname(found.get_attr("RTA_OIF"))
    return ""


@contextlib.contextmanager
def _netlink(what: str, fine: frozenset[int]) -> Iterator[Any]:
    """A pyroute2 IPRoute. An error among `fine` ends the block in silence."""
    iproute, netlink_error = load_pyroute2()
    try:
        with iproute() as netlink:
            yield netlink
    except netlink_error as error:
        if error.code in fine:
            return
        why = "no permission: run as root or give CAP_NET_ADMIN" if error.code == errno.EPERM else error.args[-1]
        raise NetworkError(f"{what}: the kernel refuses it: {why}") from error


def _route(route: Route) -> dict[str, Any]:
    """As pyroute2 wants it."""
    wanted: dict[str, Any] = {
        "dst": route.network,
        "table": route.table,
        "family": _FAMILY[ip_network(route.network).version],
    }
    if route.device:
        try:
            wanted["oif"] = socket.if_nametoindex(route.device)
        except OSError:
            raise NetworkError(f"{route}: there is no such device any more") from None
    else:
        wanted["type"] = "unreachable"
    if route.via:
        wanted["gateway"] = route.via
    if route.metric:
        wanted["priority"] = route.metric
    return wanted


def _rule(rule: Rule) -> dict[str, Any]:
    """As pyroute2 wants it."""
    wanted: dict[str, Any] = {
        "priority": rule.priority,
        "table": rule.table,
        "family": _FAMILY[rule.version],
        "action": "FR_ACT_TO_TBL",
    }
    if rule.to:
        network = ip_network(rule.to)
        address = network.network_address
        if network.prefixlen < network.max_prefixlen and not int(address):
            address += 1  # pyroute2 leaves zeros away; the kernel looks at the prefix only
        wanted |= {"dst": str(address), "dst_len": network.prefixlen}
    if rule.mark:
        wanted["fwmark"] = rule.mark
    if rule.except_mark:
        # "not" is about the rule as a whole: it cannot have a destination as well
        wanted |= {"fwmark": rule.except_mark, "flags": _FIB_RULE_INVERT}
    if rule.ignore_default:
        wanted["FRA_SUPPRESS_PREFIXLEN"] = rule.ignore_to
    return wanted


# sysctls


def read_sysctls(change: Sysctl) -> dict[str, str]:
    """The values of a setting and of what the kernel changes with it; {} if there is no such setting."""
    found: dict[str, str] = {}
    for name in (change.name, *(name for pattern in change.along for name in _matching(pattern))):
        with contextlib.suppress(OSError):
            found[name] = (SYSCTLS / name).read_text().strip()
    return found if change.name in found else {}


def set_sysctl(change: Sysctl) -> None:
    """Make a setting what it shall be, if it is not. Raises NetworkError."""
    if read_sysctls(change).get(change.name) != change.value:
        _write_sysctl(change.name, change.value)


def _write_sysctl(name: str, value: str) -> None:
    try:
        (SYSCTLS / name).write_text(value)
    except OSError as error:
        raise NetworkError(f"sysctl {name.replace('/', '.')}: cannot be set to {value}: {error.strerror}") from error


def restore_sysctls(change: Sysctl, before: Mapping[str, str]) -> bool:
    """Give back what a setting was, unless somebody else has changed it since; returns whether it was given back."""
    old = before.get(change.name, change.value)
    if old == change.value or read_sysctls(change).get(change.name) != change.value:
        return False
    _write_sysctl(change.name, old)
    for name, value in before.items():
        with contextlib.suppress(OSError):  # an interface that has gone
            if (SYSCTLS / name).read_text().strip() != value:
                (SYSCTLS / name).write_text(value)
    return True


def _matching(pattern: str) -> list[str]:
    return [str(Path(each).relative_to(SYSCTLS)) for each in sorted(glob.glob(str(SYSCTLS / pattern)))]


# nftables


def load_ruleset(change: Ruleset, check: bool = False) -> None:
    """Make or replace a table, in one transaction; `check`: only see whether the kernel would. Raises NetworkError."""
    # declared, deleted, made: so that it also works where there was none
    name = change.name
    text = f"table {name}\ndelete table {name}\ntable {name} {{\n{change.body}}}\n"
    _nft(change, ["--check"] if check else [], text)


def delete_ruleset(change: Ruleset) -> bool:
    """Remove a table; returns whether it was there. Raises NetworkError."""
    try:
        _nft(change, [], f"delete table {change.name}\n")
    except NetworkError as error:
        if os.strerror(errno.ENOENT) in str(error):
            return False
        raise
    return True


def find_nft() -> str | None:
    """Where the program is; also where an ordinary user's PATH does not look."""
    return shutil.which("nft", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))


def _nft(change: Ruleset, options: list[str], text: str) -> None:
    program = find_nft()
    if program is None:
        raise NetworkError(f"{change}: the program `nft` is not installed: install the package nftables")
    try:
        result = subprocess.run(
            [program, *options, "-f", "-"],
            input=text,
            text=True,
            capture_output=True,
            timeout=_NFT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkError(f"{change}: nft cannot be run: {error}") from error
    if result.returncode:
        why = result.stderr.strip().partition("\n")[0].rpartition("Error: ")[2] or f"exit status {result.returncode}"
        raise NetworkError(f"{change}: nft refuses it: {why}")


def dropping_chains() -> list[tuple[str, str, str]]:
    """Family, table and name of the chains of others that drop by policy what is forwarded; [] if nobody can tell."""
    program = find_nft()
    if program is None:
        return []
    try:
        result = subprocess.run(
            [program, "--json", "list", "chains"], capture_output=True, timeout=_NFT_SECONDS, check=False
        )
        chains = [each["chain"] for each in json.loads(result.stdout)["nftables"] if "chain" in each]
        return [
            (each["family"], each["table"], each["name"])
            for each in chains
            if each.get("hook") == "forward"
            and each.get("policy") == "drop"
            and not each["table"].startswith("caetun_")
        ]
    except (OSError, ValueError, LookupError, TypeError, subprocess.TimeoutExpired):
        return []
