"""Whose records a hub opens next, when more come in than it can: no far end's flood makes the others wait.

    records of a link  --within its share-->  opened as they come
                       --beyond it-->         wait, and are opened one link after the other, between two looks at what
                                              has come in; what has waited too long is dropped before it costs anything

All far ends that call by UDP share one socket, whose queue is seconds long: so it is emptied first, which costs little,
and what lies in it is put in order here. Pure: `now` is monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from caetun.transports.base import Link
from caetun.types import DropReason, Drops
from caetun.wire.record import Record

# chosen by us
SHARE: Final = 0.25
"""Of this process's time a link may take before its records wait: bulk waits, too, which costs it nothing alone."""
WASTE_SHARE: Final = 0.1
"""The same for a link whose frames storm control throws away, even if nobody else wants the time: the processor has
other programs, too, and one that always has something to do is not woken at once for those who wait for an answer."""
BURST_SECONDS: Final = 0.004
"""What it may take at once after a pause. With two bursts in its way a ping comes back within 10 ms."""
AT_ONCE: Final = 16
"""Records opened before a link's time is looked at: some bursts of a socket, of up to 64 KiB each."""
TOGETHER: Final = 8
"""Records of a link opened in one turn: what they lead to leaves together."""
WAIT_SECONDS: Final = 1.0
"""What has waited for longer is dropped: a socket's queue would have been as long."""
WASTE_WAIT_SECONDS: Final = 0.1
"""The same in a storm: whoever sends so much has new records on the way."""
WASTE_SECONDS: Final = 1.0
"""Since storm control has last thrown something away, for which a link counts as a storm."""
MAX_BYTES: Final = 8 << 20
"""Of one link's waiting records: as much as the socket would hold for all."""
MAX_RECORDS: Final = 4096
"""The same for small ones."""
MAX_WASTED: Final = 64
"""The same in a storm: about what is opened of it within `WASTE_WAIT_SECONDS`. More would be opened for nothing, which
is dear where each packet is sealed (QUIC): of a link with so much waiting, packets are dropped as they come."""
MAX_LINKS: Final = 1024
"""Accounts kept; links beyond begin anew."""


class _Waiting(NamedTuple):
    record: Record
    since: float


class _Account:
    """What one link has taken, and what waits of it."""

    __slots__ = ("left", "octets", "records", "updated", "wasteful_until")

    def __init__(self, now: float) -> None:
        self.left = BURST_SECONDS
        """Seconds it may still take; negative: it has taken too much."""
        self.updated = now
        self.wasteful_until = 0.0
        """Until when what it brings counts as a storm."""
        self.records: deque[_Waiting] = deque()
        self.octets = 0


class Turns:
    """The queues of all links whose records have to wait."""

    def __init__(self, drops: Drops) -> None:
        self._drops = drops
        self._accounts: dict[Link, _Account] = {}
        self._round: deque[Link] = deque()
        """Links with records that wait, in turn."""

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._round)

    def admit(self, link: Link, records: Sequence[Record], now: float) -> Sequence[Record]:
        """Take in what a link has brought; returns those records that are to be opened at once. Hot: once a burst."""
        account = self._account(link, now)
        if account.left <= 0 or account.records:
            self._keep(link, account, records, now)
            return ()
        if len(records) > AT_ONCE:
            self._keep(link, account, records[AT_ONCE:], now)
            return records[:AT_ONCE]
        return records

    def charge(self, link: Link, seconds: float, wasted: bool, now: float) -> None:
        """Opening some records of a link has taken so long; `wasted`: storm control has thrown some of it away."""
        account = self._account(link, now)
        if wasted:
            account.wasteful_until = now + WASTE_SECONDS
        account.left = max(-BURST_SECONDS, account.left - seconds)

    def next(self, now: float) -> tuple[Link, list[Record]] | None:
        """Records to be opened next, of the link whose turn it is; None if none are to be opened now."""
        for _ in range(len(self._round)):
            link = self._round.popleft()
            account = self._account(link, now)
            storm = now < account.wasteful_until
            self._drop_late(account, now - (WASTE_WAIT_SECONDS if storm else WAIT_SECONDS))
            waiting = account.records
            if not waiting:
                continue
            if storm and account.left <= 0:
                self._round.append(link)
                continue
            records = [waiting.popleft().record for _ in range(min(len(waiting), 1 if storm else TOGETHER))]
            account.octets -= sum(len(record.body) for record in records)
            if waiting:
                self._round.append(link)
            return link, records
        return None

    def _drop_late(self, account: _Account, before: float) -> None:
        """Drop what has waited since before some time."""
        waiting, late = account.records, 0
        while waiting and waiting[0].since < before:
            account.octets -= len(waiting.popleft().record.body)
            late += 1
        if late:
            self._drops.count(DropReason.RECORD_LATE, late)

    def crowded(self, link: Link, now: float) -> bool:
        """Whether so much of a link waits that more would be dropped."""
        account = self._accounts.get(link)
        return account is not None and len(account.records) >= _room(account, now)

    def forget(self, link: Link) -> None:
        """A link is gone. What waits of it is opened nevertheless."""
        account = self._accounts.get(link)
        if account is not None and not account.records:
            del self._accounts[link]

    def _account(self, link: Link, now: float) -> _Account:
        account = self._accounts.get(link)
        if account is None:
            if len(self._accounts) >= MAX_LINKS:
                self._accounts = {each: kept for each, kept in self._accounts.items() if kept.records}
            account = self._accounts[link] = _Account(now)
        share = WASTE_SHARE if now < account.wasteful_until else SHARE
        account.left = min(BURST_SECONDS, account.left + (now - account.updated) * share)
        account.updated = now
        return account

    def _keep(self, link: Link, account: _Account, records: Sequence[Record], now: float) -> None:
        if records and not account.records:
            self._round.append(link)
        room = max(0, _room(account, now) - len(account.records))
        for record in records[:room]:
            size = len(record.body)
            if account.octets + size > MAX_BYTES:
                self._drops.count(DropReason.RECORD_LATE)
                continue
            # Bodies may be views on the memory that the socket is read into next.
            account.records.append(_Waiting(record._replace(body=bytes(record.body)), now))
            account.octets += size
        if len(records) > room:
            self._drops.count(DropReason.RECORD_LATE, len(records) - room)


def _room(account: _Account, now: float) -> int:
    """Records of a link that may wait."""
    return MAX_WASTED if now < account.wasteful_until else MAX_RECORDS
