"""A device whose frames pass the user's rules (`caetun/mangle/`), in both directions. Fulfils the device contract.

    host -> read_batch -> rules (out) -> tunnel          tunnel -> rules (in) -> write_batch -> host

Put between device and pump only when there are rules. Headers are changed where they lie; of what comes in, only the
first bytes are copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from caetun.devices.base import Device
from caetun.mangle.frame import HEAD, Frame, gathered
from caetun.mangle.pipeline import Decision, Flows, Pipeline
from caetun.types import Drops, Iovec, Mode
from caetun.wire.container import HEAD_SIZE, VNET_SIZE, Batch
from caetun.wire.flowkey import FlowKey, key_maker


class MangledDevice:
    """Wraps another device."""

    def __init__(
        self, device: Device, pipeline: Pipeline, drops: Drops, classify: Callable[[int], None] = lambda _: None
    ) -> None:
        """`classify`: told of the outer traffic class of each batch, if a rule asks for one."""
        self._device = device
        self._pipeline = pipeline
        self._drops = drops
        self._classify = classify
        self._key_of = key_maker(device.mode)
        self._sent = Flows()
        self._received = Flows()
        # A direction that no rule is about goes straight to the device.
        if not pipeline.outgoing:
            self.read_batch = device.read_batch  # type: ignore[method-assign]
        if not pipeline.incoming:
            self.write_batch = device.write_batch  # type: ignore[method-assign]

    @property
    def name(self) -> str:
        """The interface's name."""
        return self._device.name

    @property
    def mode(self) -> Mode:
        """IP packets or Ethernet frames."""
        return self._device.mode

    @property
    def offloads(self) -> int:
        """What frames written may rely on."""
        return self._device.offloads

    def fileno(self) -> int:
        """Descriptor to wait on for reading."""
        return self._device.fileno()

    def read_batch(self, batch: Batch) -> None:
        """Add waiting frames to the batch, less those that a rule drops. Hot, where there are rules."""
        before = len(batch.starts)
        self._device.read_batch(batch)
        buffer, starts, key_of, known = batch.buffer, batch.starts, self._key_of, self._sent.get
        stops = [*starts[before + 1 :], batch.end]
        dropped: list[int] = []
        for start, stop in zip(starts[before:], stops, strict=False):
            key = key_of(buffer, start + HEAD_SIZE, stop)
            decision = known(key)
            if decision is None:
                if not self._leaves(batch, start, stop, key):
                    dropped.append(start)
            elif decision.rules and not self._acted(decision, len(batch.frame(start, stop)[0])):
                dropped.append(start)
        if dropped:
            gone = frozenset(dropped)
            batch.keep([span for span in batch.spans() if span[0] not in gone])
        outer = self._pipeline.outer
        if outer is not None and len(starts) > before:
            self._classify(outer.take())

    def _leaves(self, batch: Batch, start: int, stop: int, key: FlowKey | None) -> bool:
        """Show a frame to the rules; whether it passes."""
        content, header = batch.frame(start, stop)
        reason, decision = self._pipeline.run(Frame(content[:HEAD], len(content), header, self._device.mode), True)
        self._sent.keep(key, decision)
        if reason is not None:
            self._drops.count(reason)
        return reason is None

    def _acted(self, decision: Decision, length: int) -> bool:
        """Rules act on a frame without a change; whether it passes."""
        for rule in decision.rules:
            rule.count(length)
        if decision.outer is not None and self._pipeline.outer is not None:
            self._pipeline.outer.note(decision.outer)
        if decision.reason is not None:
            self._drops.count(decision.reason)
        return decision.reason is None

    def write_batch(self, frames: Sequence[Iovec]) -> None:
        """Write frames, in order, less those that a rule drops. Hot, where there are rules."""
        key_of, known = self._key_of, self._received.get
        kept: list[Iovec] = []
        for iovec in frames:
            first = iovec[0]
            if len(first) == VNET_SIZE and len(iovec) > 1:
                first = iovec[1]
                key = key_of(first, 0, len(first))
            else:
                key = key_of(first, VNET_SIZE, len(first))  # headers of a joined superframe
            decision = known(key)
            if decision is None:
                self._arrives(iovec, key, kept)
            elif not decision.rules or self._acted(decision, sum(map(len, iovec)) - VNET_SIZE):
                kept.append(iovec)
        self._device.write_batch(kept)

    def _arrives(self, iovec: Iovec, key: FlowKey | None, kept: list[Iovec]) -> None:
        """Show a frame to the rules; add it, as they leave it, to those that are kept."""
        frame, rest = gathered(iovec, self._device.mode)
        reason, decision = self._pipeline.run(frame, False)
        self._received.keep(key, decision)
        if reason is not None:
            self._drops.count(reason)
        elif frame.changed:
            kept.append((frame.header, frame.head, *rest))
        else:
            kept.append(iovec)

    def close(self) -> None:
        """Give the device back."""
        self._device.close()
