"""What the daemon has of the gateway: told what is wished, it checks, changes the host, follows changes, and undoes.

Steward(wish) -> check() -> sockets are opened with `mark` -> start(device, ...) -> refresh(), change() -> close()
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

from caetun import logs
from caetun.errors import CaeTunError, HostError, NetworkError
from caetun.gateway import dns, kernel, preflight, repair
from caetun.gateway.executor import Executor, Undone
from caetun.gateway.journal import Journal
from caetun.gateway.lookup import OuterLookup, OuterServers
from caetun.gateway.plan import MARK, Facts, Interface, Wish, plan
from caetun.gateway.ruleset import Address, Network
from caetun.netlink import beside_loop

log = logs.logger("gateway")


class Steward:
    """One tunnel's changes of its host."""

    def __init__(self, wish: Wish) -> None:
        """`wish.device` may be "" until `start`."""
        self._wish = wish
        self._facts = Facts()
        self._journal: Journal | None = None
        self._held = False
        """Whether a kill switch was there before, and has not been replaced by ours."""
        servers = OuterServers(lambda: self._wish.device, lambda: [str(each) for each in self._wish.dns])
        self._lookup = OuterLookup(self.mark, servers)

    @property
    def mark(self) -> int:
        """Of the tunnel's own sockets; 0 where nothing depends on it."""
        return MARK if self._wish.steers or self._wish.pulls else 0

    @property
    def getaddrinfo(self) -> Callable[..., list[object]] | None:
        """What is to find the addresses of far ends and proxies; None: the system's resolver will do."""
        return self._lookup.getaddrinfo if self.mark or self._wish.dns else None

    @property
    def started(self) -> bool:
        """Whether the host has been changed, or may be by `change`."""
        return self._journal is not None

    def check(self) -> None:
        """Whether this host can do what is wished; changes nothing. Raises HostError."""
        self._facts = preflight.look_around()
        try:
            wish = dataclasses.replace(self._wish, device=self._wish.device or "caetun0")
            problems = preflight.missing(plan(wish, self._facts))
        except ValueError as error:
            raise HostError(f"--dev: {error}") from None
        if len(problems) == 1:
            raise HostError(problems[0])
        for each in problems:
            logs.event(log, logging.ERROR, "gateway.missing", each)
        if problems:
            raise HostError(f"this host lacks {len(problems)} things, named above: nothing was changed")

    def start(self, device: str, interfaces: Sequence[Interface]) -> None:
        """Repair what was left behind, then change the host. Raises NetworkError; `close` undoes what was done."""
        self._wish = wish = dataclasses.replace(self._wish, device=device, interfaces=tuple(interfaces))
        if not wish.versions and not wish.pulls and (wish.steers or wish.masquerade):
            raise NetworkError(
                f"{device} has no addresses: give it some by --address: they say what the tunnel carries"
            )
        repair_leftovers(device, wish.kill_switch)
        journal = Journal(repair.directory(), device)
        if not journal.claim():
            raise NetworkError(f"{journal.path}: another tunnel on {device} holds it: stop that")
        if journal.elsewhere:
            journal.release()
            raise NetworkError(
                f"{journal.path}: holds changes of another network namespace: undo them there (caetun undo)"
            )
        self._journal = journal
        self._held = bool(journal.read())
        taken = preflight.table_taken() if wish.steers else ""
        if taken:
            raise NetworkError(taken)
        Executor(journal).update(plan(wish, self._facts))
        self._held = False
        self._announce()

    @beside_loop
    def refresh(self) -> None:
        """This host's addresses, routes or rules have changed: what was taken away of ours comes back."""
        if self._journal is None:
            return
        try:
            Executor(self._journal).restore_missing()
        except CaeTunError as error:
            logs.event(log, logging.WARNING, "gateway.lost", f"cannot be kept up: {error}")

    @beside_loop
    def change(
        self,
        *,
        gateway: bool | None = None,
        interfaces: Sequence[Interface] | None = None,
        via: Sequence[Address] | None = None,
        routes: Sequence[Network] | None = None,
        servers: Sequence[Address] | None = None,
        domains: Sequence[str] | None = None,
    ) -> None:
        """Lead all or some networks through the tunnel, ask other name servers, from now on; None: as before.

        For what the far end tells (`Wish.pulls`, so that the tunnel's sockets have the mark). Raises NetworkError:
        either this host lacks something, and nothing has changed, or `close` undoes what was done until then.
        """
        assert self._journal is not None, "start comes first"
        lists = {"interfaces": interfaces, "via": via, "routes": routes, "dns": servers, "domains": domains}
        values: dict[str, Any] = {name: tuple(each) for name, each in lists.items() if each is not None}
        if gateway is not None:
            values["gateway"] = gateway
        wish = dataclasses.replace(self._wish, **values)
        if wish == self._wish:
            return
        changes = plan(wish, self._facts)
        problems = preflight.missing(changes)
        if wish.steers and not self._wish.steers and (taken := preflight.table_taken()):
            problems.append(taken)
        if problems:
            raise NetworkError("; ".join(problems))
        before, self._wish = self._wish, wish
        undone = Executor(self._journal).update(changes)
        _tell("no longer wanted", undone.lines, undone.problems)
        if (before.gateway, before.versions, before.dns) != (wish.gateway, wish.versions, wish.dns):
            self._announce()

    def close(self, failed: bool = False) -> None:
        """Undo everything. May be called twice.

        `failed`: the tunnel has ended against its user's will. What a kill switch has shut then stays shut.
        """
        journal, self._journal = self._journal, None
        if journal is None:
            return
        if self._wish.kill_switch and (failed or self._held):
            words = f"the kill switch holds, nothing leaves: start the tunnel again, or caetun undo {journal.device}"
            logs.event(log, logging.WARNING, "gateway.held", words, device=journal.device)
            journal.release()
            return
        try:
            undone = Executor(journal).undo()
        except CaeTunError as error:
            undone = Undone([], [str(error)])
        journal.release()
        for problem in undone.problems:
            hint = f"run `caetun undo {journal.device}`"
            logs.event(log, logging.WARNING, "gateway.left", f"could not be undone: {problem}: {hint}")

    def _announce(self) -> None:
        wish = self._wish
        if wish.gateway:
            words = f"all traffic goes through {wish.device}"
            blocked = [f"IPv{version}" for version in (4, 6) if version not in wish.versions]
            words += f"; {blocked[0]} is blocked, the tunnel does not carry it" if blocked else ""
            words += "; local networks stay reachable" if wish.lan else "; local networks are not reachable"
            words += "; nothing leaves without it (kill switch)" if wish.kill_switch else ""
            logs.event(log, logging.INFO, "gateway.on", words, device=wish.device)
        if wish.dns:
            words = f"names are looked up by {', '.join(map(str, wish.dns))}"
            logs.event(log, logging.INFO, "gateway.dns", words, device=wish.device)
        elif wish.gateway and (outside := _asked_outside(wish)):
            words = f"names are looked up by {', '.join(outside)}, outside of the tunnel: give --dns"
            logs.event(log, logging.WARNING, "gateway.dns", words, device=wish.device)
        if wish.masquerade:
            words = f"what comes from {', '.join(map(str, wish.networks))} goes out under this host's addresses"
            logs.event(log, logging.INFO, "gateway.masquerade", words, device=wish.device)
            for line in preflight.firewalls_in_the_way(wish.device):
                logs.event(log, logging.WARNING, "gateway.firewall", line)


def repair_leftovers(device: str, killing: bool = False) -> None:
    """Undo what tunnels that were killed have left, as `repair.repair_before_start` has it. Raises NetworkError."""
    for each in repair.repair_before_start(device, killing):
        _tell(f"{each.device}: a tunnel that was killed had left", each.lines, each.problems)


def _asked_outside(wish: Wish) -> list[str]:
    """The name servers of this host that are asked by another way than the tunnel."""
    servers = dns.servers_in(dns.RESOLV_CONF)
    if dns.STUBS.intersection(servers):
        servers = dns.servers_in(dns.RESOLVED_UPSTREAM)
    return [each for each in servers if "%" in each or kernel.leads_to(each) not in ("", "lo", wish.device)]


def _tell(what: str, lines: Sequence[str], problems: Sequence[str]) -> None:
    if lines:
        logs.event(log, logging.INFO, "gateway.undone", f"{what}, undone: {'; '.join(lines)}")
    for problem in problems:
        logs.event(log, logging.WARNING, "gateway.left", f"{what}: {problem}")
