"""Control messages inside a container (docs/wire.md, section 5).

type (1) | value
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, TypeAlias

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason
from caetun.wire.element import CONTROL, HEAD

# fixed by the specification
_REPORT: Final = struct.Struct(">BQQ")
_PROBE: Final = struct.Struct(">BIH")
_CLOSE: Final = struct.Struct(">BB")
PROBE_SIZE: Final = HEAD.size + _PROBE.size
"""Bytes of a probe's element."""
_TYPE_REPORT: Final = 1
_TYPE_PROBE: Final = 2
_TYPE_PROBE_ACKNOWLEDGEMENT: Final = 3
_TYPE_CLOSE: Final = 4
SHUTTING_DOWN: Final = 1
REVOKED: Final = 2


class Report(NamedTuple):
    """What the receiver has opened so far under the key pair that carries the report."""

    highest: int
    opened: int


class Probe(NamedTuple):
    """Asks whether a message of `size` bytes, its header included, gets through by this link; padding fills it."""

    ident: int
    size: int


class ProbeAcknowledgement(NamedTuple):
    """A probe of `size` bytes arrived."""

    ident: int
    size: int


PROBING: Final = (Probe, ProbeAcknowledgement)
"""Messages that test a link: a record that holds nothing else does not say where its sender wants to be reached."""


class Close(NamedTuple):
    """The sender ends the session."""

    reason: int


Control: TypeAlias = Report | Probe | ProbeAcknowledgement | Close


def _element(body: bytes) -> bytes:
    return HEAD.pack(CONTROL << 24 | len(body)) + body


def encode(control: Control) -> bytes:
    """A whole container element, head included."""
    match control:
        case Report(highest, opened):
            return _element(_REPORT.pack(_TYPE_REPORT, highest, opened))
        case Probe(ident, size):
            return _element(_PROBE.pack(_TYPE_PROBE, ident, size))
        case ProbeAcknowledgement(ident, size):
            return _element(_PROBE.pack(_TYPE_PROBE_ACKNOWLEDGEMENT, ident, size))
        case Close(reason):
            return _element(_CLOSE.pack(_TYPE_CLOSE, reason))


def decode(body: Buffer) -> Control | None:
    """The message in an element's body; None for a type this version does not know; raises Malformed."""
    if not len(body):
        raise Malformed(DropReason.CONTROL_MALFORMED, "empty")
    kind = body[0]
    layout = {
        _TYPE_REPORT: _REPORT,
        _TYPE_PROBE: _PROBE,
        _TYPE_PROBE_ACKNOWLEDGEMENT: _PROBE,
        _TYPE_CLOSE: _CLOSE,
    }.get(kind)
    if layout is None:
        return None
    if len(body) != layout.size:
        raise Malformed(DropReason.CONTROL_MALFORMED, f"type {kind} of {len(body)} bytes")
    values = layout.unpack(body)[1:]
    if kind == _TYPE_REPORT:
        return Report(*values)
    if kind == _TYPE_PROBE:
        return Probe(*values)
    if kind == _TYPE_PROBE_ACKNOWLEDGEMENT:
        return ProbeAcknowledgement(*values)
    return Close(*values)
