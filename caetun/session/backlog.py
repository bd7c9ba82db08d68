"""What waits for one peer while its link is full: short for every flow, and next to nothing for those who send little.

FQ-CoDel (RFC 8290) over frames as a device reads them, superframes whole. The way of a frame:

    1. put     into the queue of its flow (`offload/flow.py`); at a cap, heads of the longest queue make room
    2. take    the next flow's turn: new flows first, then the others round by round, each for the same bytes
    3.         its CoDel (`codel.py`) may have the head marked (`offload/ecn.py`) or dropped instead
    4.         into the batch that goes to `Session.seal_batch`, until the limit

            +-- a queue per flow --+    new: ping, ACK, DNS ...      ---+
    put --> | [] [] []             |                                    +--> take --> batch
            +----------------------+    old: bulk, in rounds         ---+

A superframe is not divided: the link cuts it. So whoever has next to nothing queued waits for the batch that is on its
way, at most `limit` or one superframe (64 KiB: 5.2 ms at 100 Mbit/s), and then leaves first, in a record of its own
if the next superframe does not fit below the limit: a record is of use at the far end only when all of it is there.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Final

from caetun.offload.ecn import mark
from caetun.offload.flow import FlowHash
from caetun.session.codel import TARGET, Codel
from caetun.types import DropReason, Drops, Mode
from caetun.wire.container import HEAD_SIZE, MAX_BATCH_FRAMES, Batch

# fixed by the specification: RFC 8290, sections 5.2.4 and 5.2.5
QUANTUM: Final = 1514
"""Bytes a flow may send in a round: one full Ethernet frame. A flow that never has more than that waiting stays new."""
FLOW_BITS: Final = 10
"""1,024 queues at most; flows beyond that share."""

# chosen by us
MAX_BYTES: Final = 4 << 20
"""64 superframes: 8 ms at 4 Gbit/s, where a link is full for moments only. CoDel keeps it far shorter on slow links."""
MAX_FRAMES: Final = 4096
"""Small frames cost some 200 bytes of memory each, whatever their length. 50 ms of what a device gives at most."""
MAX_LIMIT: Final = 1 << 16
"""Bytes of a batch: what one record takes."""
MIN_LIMIT: Final = 3 * QUANTUM
"""Bytes: below that, headers of records begin to count."""
BATCH_SECONDS: Final = 0.002
"""Of the link's time that a batch of small frames may take: a frame that comes just after it waits so long."""
RATE_SECONDS: Final = 0.01
"""Over which the link's rate is measured: a few batches."""
RATE_MEMORY: Final = 0.04
"""Seconds after which a former rate counts little."""


class _Flow:
    """One queue."""

    __slots__ = ("bucket", "codel", "deficit", "frames", "largest", "listed", "size")

    def __init__(self, bucket: int) -> None:
        self.bucket = bucket
        self.frames: deque[tuple[float, int, bytearray]] = deque()
        """(since, offloads, element), oldest first."""
        self.size = 0
        """Bytes of the elements."""
        self.largest = 0
        """Bytes of the largest element so far."""
        self.deficit = 0
        """Bytes it may still send in this round; below 0, what it has sent too much."""
        self.listed = False
        """Whether it waits for its turn."""
        self.codel: Codel | None = None
        """None while nothing has waited for long."""


class Backlog:
    """The frames that wait for one peer. Sizes are bytes of container elements: the frame and 4 to 14 more."""

    def __init__(
        self, mode: Mode, seed: bytes, drops: Drops, *, batch: Batch | None = None, max_bytes: int = MAX_BYTES
    ) -> None:
        """`seed`: 16 random bytes, so that no stranger can aim at another's queue; `batch`: the memory of what `take`
        returns, which backlogs may share; `max_bytes`: at least a batch's."""
        self.size = 0
        """Bytes that wait."""
        self.marked = 0
        """Frames marked instead of dropped so far."""
        self.rate = 0.0
        """Bytes a second that the link has taken lately while frames were waiting; 0 if that is not known."""
        self._mode = mode
        self._drops = drops
        self._batch = batch
        self._max_bytes = max_bytes
        self._hash = FlowHash(mode, seed, FLOW_BITS)
        self._count = 0
        self._flows: dict[int, _Flow] = {}
        """By bucket: those with frames, those in a list below, and those whose CoDel is not forgettable yet."""
        self._new: deque[_Flow] = deque()
        self._old: deque[_Flow] = deque()
        self._demoted: list[_Flow] = []
        """Flows that went from new to old since a frame was last taken."""
        self._measured_at: float | None = None
        """When the link's rate was last looked at, since something has waited all the while."""
        self._measure_at = 0.0
        self._taken = 0
        """Bytes since then."""

    def __len__(self) -> int:
        """Frames that wait."""
        return self._count

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._count

    @property
    def flows(self) -> int:
        """Flows that are remembered, at most 2**FLOW_BITS."""
        return len(self._flows)

    @property
    def limit(self) -> int:
        """What to ask `take` for, by the rate of the link: `BATCH_SECONDS` of it, within bounds."""
        if not self.rate:
            return MAX_LIMIT
        return max(MIN_LIMIT, min(MAX_LIMIT, int(self.rate * BATCH_SECONDS)))

    # in

    def put(self, batch: Batch, now: float) -> None:
        """Copy a batch's frames; what is then too much is dropped. `now`: seconds, monotonic. Hot: a turn a frame."""
        flows, buffer, bucket_of, offloads = self._flows, batch.buffer, self._hash.bucket, batch.offloads
        for start, stop in batch.spans():
            element = buffer[start:stop]
            bucket = bucket_of(element, HEAD_SIZE)
            flow = flows.get(bucket)
            if flow is None:
                flow = flows[bucket] = _Flow(bucket)
            if not flow.listed:
                flow.listed = True
                flow.deficit = QUANTUM
                self._new.append(flow)
            size = stop - start
            flow.frames.append((now, offloads, element))
            flow.size += size
            if size > flow.largest:
                flow.largest = size
        self.size += batch.end
        self._count += len(batch)
        if self.size > self._max_bytes or self._count > MAX_FRAMES:
            self._shed()

    def _shed(self) -> None:
        """Get below the caps again: drop from the head of the longest queue, one by one (RFC 8290, section 4.1)."""
        longest = [(-flow.size, flow.bucket) for flow in self._flows.values() if flow.frames]
        heapq.heapify(longest)
        while self.size > self._max_bytes or self._count > MAX_FRAMES:
            flow = self._flows[longest[0][1]]
            size = len(flow.frames.popleft()[2])
            flow.size -= size
            self.size -= size
            self._count -= 1
            self._drops.count(DropReason.BACKLOG_FULL)
            heapq.heapreplace(longest, (-flow.size, flow.bucket))

    def abandon(self, reason: DropReason) -> None:
        """Drop all frames, for this reason: the peer is gone."""
        if self._count:
            self._drops.count(reason, self._count)
        self._flows.clear()
        for flows in (self._new, self._old, self._demoted):
            flows.clear()
        self.size = self._count = 0
        self._measured_at, self._measure_at = None, 0.0

    # out

    def take(self, now: float, limit: int) -> Batch | None:
        """The frames to send next, or None if nothing waits (any more). Hot: a turn a frame.

        `limit`: bytes the batch may hold, at most MAX_LIMIT; a frame that is longer comes alone. See `Backlog.limit`.
        The batch's memory is good until the next `take`. `now`: seconds, monotonic.
        """
        if not self._count:
            return None
        if self._batch is None:
            self._batch = Batch()
        batch = self._batch
        batch.clear()
        buffer, starts = batch.buffer, batch.starts
        limit = min(limit, MAX_LIMIT)
        end = 0
        count, waiting = self._count, self.size
        while count and end < limit and len(starts) < MAX_BATCH_FRAMES:
            flow = self._turn(now)
            since, offloads, element = flow.frames[0]
            size = len(element)
            if end and end + size > limit:
                self._restore()
                break
            if self._demoted:
                self._demoted.clear()
            flow.frames.popleft()
            flow.size -= size
            waiting -= size
            count -= 1
            if (flow.codel is not None or now - since >= TARGET) and not self._passes(flow, since, element, now):
                continue
            flow.deficit -= size
            starts.append(end)
            buffer[end : end + size] = element
            end += size
            batch.offloads |= offloads
        batch.end = end
        self._count, self.size = count, waiting
        if now >= self._measure_at:
            self._measure(now)
        self._taken += end
        if not count:
            self._rest(now)
        return batch if end else None

    def _turn(self, now: float) -> _Flow:
        """The flow that may send next (RFC 8290, section 4.2); there is one that has frames. Hot."""
        new, old = self._new, self._old
        passed = 0
        while True:
            flows = new or old
            flow = flows[0]
            if flow.deficit > 0 and flow.frames:
                return flow
            flows.popleft()
            if flow.deficit <= 0:
                flow.deficit += QUANTUM
            elif flows is old:
                self._retire(flow, now)
                continue
            else:
                # A new flow that has run empty is an old one for a round: nobody stays in front by coming and going.
                self._demoted.append(flow)
            old.append(flow)
            passed += 1
            if passed >= len(old) and not new:
                self._skip_rounds()
                passed = 0

    def _restore(self) -> None:
        """Nobody has sent since some new flows were found empty: the look that found them did not count."""
        for flow in reversed(self._demoted):
            if flow.listed:
                self._old.remove(flow)
                self._new.appendleft(flow)
        self._demoted.clear()

    def _skip_rounds(self) -> None:
        """Everyone is in debt, by a superframe for example: go on at the last round in which all still are."""
        rounds = -max(flow.deficit for flow in self._old) // QUANTUM
        if rounds > 0:
            for flow in self._old:
                flow.deficit += rounds * QUANTUM

    def _passes(self, flow: _Flow, since: float, element: bytearray, now: float) -> bool:
        """Whether CoDel lets this frame go, be it with a mark."""
        if flow.codel is None:
            flow.codel = Codel()
        if not flow.codel.due(now - since, flow.size, flow.largest, now):
            return True
        if mark(memoryview(element)[HEAD_SIZE:], self._mode):
            self.marked += 1
            return True
        self._drops.count(DropReason.BACKLOG_CODEL)
        return False

    def _rest(self, now: float) -> None:
        """Nothing waits any more: whoever sends next is new again."""
        for flow in (*self._new, *self._old):
            self._retire(flow, now)
        for flows in (self._new, self._old, self._demoted):
            flows.clear()
        self._measured_at, self._measure_at = None, 0.0

    def _retire(self, flow: _Flow, now: float) -> None:
        """A flow has nothing to send: forget it, unless its CoDel has just been at work."""
        flow.listed = False
        if flow.codel is not None:
            flow.codel.emptied()
        if flow.codel is None or flow.codel.forgettable(now):
            del self._flows[flow.bucket]

    def _measure(self, now: float) -> None:
        """Learn the link's rate: what was taken before, while something always waited, is on its way by now."""
        if self._measured_at is not None:
            elapsed = now - self._measured_at
            change = self._taken / elapsed - self.rate
            self.rate += change * (min(1.0, elapsed / RATE_MEMORY) if self.rate else 1.0)
        self._measured_at, self._measure_at, self._taken = now, now + RATE_SECONDS, 0
