"""What tunnels that were killed have left behind, undone: by `caetun undo`, or by the next start."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from caetun.errors import NetworkError
from caetun.gateway import dns
from caetun.gateway.changes import Change, ResolvConf, Ruleset
from caetun.gateway.executor import Executor
from caetun.gateway.journal import Journal, journals
from caetun.runtime import runtime_directory, socket_path


class Repaired(NamedTuple):
    """What became of one device's changes."""

    device: str
    lines: list[str]
    """What was undone."""
    problems: list[str]
    """What was not, and why."""
    running: bool = False
    """Whether that is because its tunnel runs."""


def _is_nothing(change: Change) -> bool:
    return False


def _is_ruleset(change: Change) -> bool:
    return isinstance(change, Ruleset)


def directory() -> Path:
    """Where state files are."""
    return runtime_directory(os.environ, os.geteuid())


def repair(device: str, keep: Callable[[Change], bool] = _is_nothing) -> Repaired:
    """Undo what the tunnel on a device has left behind, but what is to be kept. Raises NetworkError."""
    journal = Journal(directory(), device)
    if not journal.path.exists():
        return Repaired(device, _orphan(device), [])
    if journal.elsewhere:
        problem = "its changes are those of another network namespace: undo them there (ip netns exec NAME caetun undo)"
        return Repaired(device, [], [problem])
    if not journal.claim():
        problem = "its tunnel is running: stop that instead, and it undoes its changes itself"
        return Repaired(device, [], [problem], running=True)
    try:
        undone = Executor(journal).undo(lambda change: not keep(change))
        socket_path(device).unlink(missing_ok=True)  # of the tunnel that held the journal: nobody answers there
        return Repaired(device, undone.lines + _orphan(device), undone.problems)
    finally:
        journal.release()


def left_behind() -> list[str]:
    """The devices of which there may be something to undo, running or not."""
    return sorted({*(each.device for each in journals(directory())), *dns.abandoned()})


def repair_before_start(device: str, killing: bool) -> list[Repaired]:
    """What a start undoes before it changes anything itself. `killing`: it has a kill switch of its own.

    A kill switch stays: that of this device until the new one takes its place, and that of another device altogether,
    because its tunnel may be started again any moment, and until then nothing is to leave.
    """
    done: list[Repaired] = []
    for journal in journals(directory()):
        mine = journal.device == device
        with contextlib.suppress(NetworkError):
            if not mine and any(_is_kill_switch(entry.change) for entry in journal.read()):
                if _dead(journal):
                    hint = f"the kill switch of a tunnel that was killed still holds: caetun undo {journal.device}"
                    done.append(Repaired(journal.device, [], [hint]))
                continue
            if mine or _dead(journal):
                done.append(repair(journal.device, _is_ruleset if mine and killing else _is_nothing))
    return [each for each in done if each.lines or each.problems]


def _dead(journal: Journal) -> bool:
    if journal.elsewhere or not journal.claim():
        return False
    journal.release()
    return True


def _is_kill_switch(change: Change) -> bool:
    return isinstance(change, Ruleset) and "policy drop" in change.body


def _orphan(device: str) -> list[str]:
    """A resolv.conf whose state file is gone: the machine was switched off meanwhile."""
    if device not in dns.abandoned():
        return []
    change = ResolvConf(device, ())
    return [f"{dns.RESOLV_CONF}: what was there before is back"] if dns.restore_resolv_conf(change) else []
