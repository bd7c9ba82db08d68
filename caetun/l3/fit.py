"""Packets that are larger than the far end's device takes: divided where IPv4 allows it, refused with ICMP elsewhere.

| packet                                  | larger than the far MTU                                                    |
|-----------------------------------------|----------------------------------------------------------------------------|
| IPv4 without DF                         | goes in fragments (RFC 791), as by any router                              |
| IPv4 with DF, IPv6                      | dropped; its sender gets the MTU by ICMP (RFC 1191, RFC 8201), if he may   |
| anything else on Ethernet               | dropped                                                                    |

A superframe is as large as the largest packet it stands for. Needed only where the far MTU is smaller than ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from caetun.errors import Malformed
from caetun.l3.answers import Answers, Lost
from caetun.offload.ipv4_fragments import fragment_ipv4
from caetun.offload.segment import segment
from caetun.offload.validate import divisible
from caetun.types import Buffer, DropReason, Drops, Mode
from caetun.wire import ip
from caetun.wire.container import HEAD_SIZE, Batch
from caetun.wire.ethernet import HEADER_SIZE, TYPE_IPV4, TYPE_IPV6, network_header
from caetun.wire.icmp import Error
from caetun.wire.virtio_net import GSO_ECN, GSO_NONE, NO_OFFLOAD

_GSO_TYPE_AT: Final = 1


class Fitter:
    """Fits batches, for the frames of one device's kind."""

    def __init__(self, mode: Mode, drops: Drops) -> None:
        self._mode = mode
        self._drops = drops
        self._answers = Answers(mode, drops)
        self._least = HEADER_SIZE if mode is Mode.TAP else 0

    def fit(self, batch: Batch, mtu: int, port: int, now: float) -> tuple[Sequence[Batch], list[bytes]]:
        """The batches to send instead, and frames that tell the sender of what is too large.

        `mtu`: bytes from the IP header on that the far end's device takes; `port`: where the batch came from. Hot where
        it is needed: a comparison a frame, and a look into superframes.
        """
        least = self._least + mtu + HEAD_SIZE
        spans = list(batch.spans())
        large = [at for at, (start, stop) in enumerate(spans) if stop - start > least]
        if not large:
            return [batch], []
        frames: dict[int, list[tuple[Buffer, bytes]]] = {}
        answers: list[bytes] = []
        for at in large:
            frame, header = batch.frame(*spans[at])
            try:
                fitting = self._fitted(Lost(frame, header, port), mtu, now, answers)
            except Malformed as bad:
                self._drops.count(bad.reason)
                fitting = []
            if fitting is not None:
                frames[at] = fitting
        if not frames:
            return [batch], answers
        return _filled(
            each for at, span in enumerate(spans) for each in (frames[at] if at in frames else [batch.frame(*span)])
        ), answers

    def _fitted(self, lost: Lost, mtu: int, now: float, answers: list[bytes]) -> list[tuple[Buffer, bytes]] | None:
        """What to send in place of a frame; None: itself. Raises Malformed."""
        frame, header, _ = lost
        network, is_ip = 0, True
        if self._mode is Mode.TAP:
            ethertype, network = network_header(frame)
            is_ip = ethertype in (TYPE_IPV4, TYPE_IPV6) and network < len(frame)
        version = frame[network] >> 4 if is_ip else 0
        if version == ip.IPV6:
            mtu = max(
                mtu, ip.IPV6_LEAST_MTU
            )  # no sender of IPv6 goes below, so the device has to (RFC 8201, section 4)
        superframe = header[_GSO_TYPE_AT] & ~GSO_ECN != GSO_NONE
        size = len(frame) - network
        if superframe:
            whole = divisible(frame, len(frame), header, self._mode)
            size = min(size, whole.payload - network + whole.gso_size)
        if size <= mtu:
            return None
        if version == ip.IPV4 and not frame[network + ip.IPV4_FLAGS_AT] & ip.DONT_FRAGMENT:
            return self._divided(frame, header, network, mtu)
        self._drops.count(DropReason.PACKET_TOO_BIG)
        if version:
            answer = self._answers.answer(Error.TOO_BIG, lost, now, mtu=mtu)
            if answer is not None:
                answers.append(answer)
        return []

    def _divided(self, frame: memoryview, header: bytes, network: int, mtu: int) -> list[tuple[Buffer, bytes]]:
        found: list[tuple[Buffer, bytes]] = []
        for packet in segment(frame, header, self._mode):
            whole = len(packet) - network <= mtu
            found += [(part, NO_OFFLOAD) for part in ([packet] if whole else fragment_ipv4(packet, network, mtu))]
        return found


def _filled(frames: Iterable[tuple[Buffer, bytes]]) -> list[Batch]:
    """As few batches as hold the frames, in order."""
    batches: list[Batch] = []
    for frame, header in frames:
        if not batches or batches[-1].full:
            batches.append(Batch())
        batches[-1].append(frame, header)
    return batches
