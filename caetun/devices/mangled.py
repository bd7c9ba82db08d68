"""A device whose frames pass the user's rules (`caetun/mangle/`), in both directions. Fulfils the device contract.

    host -> read_batch -> rules (out) -> tunnel          tunnel -> rules (in) -> write_batch -> host

Put between device and pump only when there are rules. Headers are changed where they lie; of what comes in, only the
first bytes are copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from caetun.devices.base import Device
from caetun.mangle.frame import HEAD, Frame, gathered
from caetun.mangle.pipeline import Pipeline
from caetun.types import Drops, Iovec, Mode
from caetun.wire.container import Batch


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
        mode, run = self._device.mode, self._pipeline.run
        kept: list[tuple[int, int]] = []
        for number, (start, stop) in enumerate(batch.spans()):
            if number >= before:
                content, header = batch.frame(start, stop)
                reason = run(Frame(content[:HEAD], len(content), header, mode), True)
                if reason is not None:
                    self._drops.count(reason)
                    continue
            kept.append((start, stop))
        if len(kept) < len(batch.starts):
            batch.keep(kept)
        outer = self._pipeline.outer
        if outer is not None and len(kept) > before:
            self._classify(outer.take())

    def write_batch(self, frames: Sequence[Iovec]) -> None:
        """Write frames, in order, less those that a rule drops. Hot, where there are rules."""
        mode, run = self._device.mode, self._pipeline.run
        kept: list[Iovec] = []
        for iovec in frames:
            frame, rest = gathered(iovec, mode)
            reason = run(frame, False)
            if reason is not None:
                self._drops.count(reason)
            elif frame.changed:
                kept.append((frame.header, frame.head, *rest))
            else:
                kept.append(iovec)
        self._device.write_batch(kept)

    def close(self) -> None:
        """Give the device back."""
        self._device.close()
