"""Makes changes of the host, each in the state file before it is made, and undoes them in the opposite order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from caetun.errors import NetworkError
from caetun.gateway import dns, kernel
from caetun.gateway.changes import Change, ResolvConf, ResolvedLink, Route, Rule, Ruleset, Sysctl
from caetun.gateway.journal import Entry, Journal, journals, one_at_a_time


class Undone(NamedTuple):
    """What became of changes that were to be undone."""

    lines: list[str]
    """Those that were undone, in words."""
    problems: list[str]
    """Those that could not be; they stay in the state file."""


class Executor:
    """The changes of one tunnel. Its journal is claimed."""

    def __init__(self, journal: Journal) -> None:
        """What the state file already holds counts as made: `update` with a plan without it undoes it."""
        self._journal = journal

    def update(self, plan: Sequence[Change]) -> Undone:
        """Bring the host from the changes made so far to those of a plan.

        What is in both stays untouched. Raises NetworkError; what was done until then is in the state file.
        """
        wanted = {change.key for change in plan}
        undone = self.undo(lambda change: change.key not in wanted)
        with one_at_a_time(self._journal.directory):
            for change in plan:
                self._make(change)
        return undone

    def undo(self, which: Callable[[Change], bool] = lambda change: True) -> Undone:
        """Undo the changes, or some, the latest first. May be called again for those that failed."""
        undone = Undone([], [])
        with one_at_a_time(self._journal.directory):
            for entry in reversed(self._journal.read()):
                if not which(entry.change):
                    continue
                try:
                    if not self._leave_to_heir(entry) and _undo(entry):
                        undone.lines.append(str(entry.change))
                except NetworkError as error:
                    undone.problems.append(str(error))
                    continue
                left = [each for each in self._journal.read() if each.change.key != entry.change.key]
                self._journal.write(left)
        return undone

    def restore_missing(self) -> None:
        """Make again what somebody else has taken away: routes, rules, resolv.conf. Raises NetworkError."""
        with one_at_a_time(self._journal.directory):
            for entry in self._journal.read():
                if isinstance(entry.change, Route | Rule | ResolvConf):
                    _apply(entry.change)

    def made(self) -> list[Change]:
        """The changes made so far, oldest first."""
        return [entry.change for entry in self._journal.read()]

    def _make(self, change: Change) -> None:
        entries = self._journal.read()
        keys = [entry.change.key for entry in entries]
        if change.key in keys:
            at = keys.index(change.key)
            if entries[at].change == change:
                return
            entries[at] = Entry(change, entries[at].before)
        else:
            before = kernel.read_sysctls(change) if isinstance(change, Sysctl) else {}
            entries.append(Entry(change, before))
        self._journal.write(entries)
        _apply(change)

    def _leave_to_heir(self, entry: Entry) -> bool:
        """A sysctl of ours that another tunnel relies on: it takes our `before`, and gives that back in the end."""
        change = entry.change
        if not isinstance(change, Sysctl) or entry.before.get(change.name) == change.value:
            return False
        for other in journals(self._journal.directory):
            if other.device == self._journal.device or other.elsewhere:
                continue
            entries = other.read()
            for at, each in enumerate(entries):
                if each.change == change and each.before.get(change.name) == change.value:
                    entries[at] = Entry(change, entry.before)
                    other.write(entries)
                    return True
        return False


def _apply(change: Change) -> None:
    match change:
        case Route():
            kernel.add_route(change)
        case Rule():
            kernel.add_rule(change)
        case Sysctl():
            kernel.set_sysctl(change)
        case Ruleset():
            kernel.load_ruleset(change)
        case ResolvConf():
            dns.write_resolv_conf(change)
        case ResolvedLink():
            dns.tell_resolved(change)


def _undo(entry: Entry) -> bool:
    """Returns whether there was something to undo."""
    match entry.change:
        case Route():
            return kernel.delete_route(entry.change)
        case Rule():
            return kernel.delete_rule(entry.change)
        case Sysctl():
            return kernel.restore_sysctls(entry.change, entry.before)
        case Ruleset():
            return kernel.delete_ruleset(entry.change)
        case ResolvConf():
            return dns.restore_resolv_conf(entry.change)
        case ResolvedLink():
            return dns.revert_resolved(entry.change)
