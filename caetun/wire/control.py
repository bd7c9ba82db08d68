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
_NOTICE: Final = struct.Struct(">BB")
_PART: Final = struct.Struct(">BBBQ")
_PART_ACKNOWLEDGEMENT: Final = struct.Struct(">BQI")
MAX_PART: Final = 1024
"""Bytes of a message that one part carries at most."""
ACKNOWLEDGED_BEYOND: Final = 32
"""Parts behind the first missing one that an acknowledgement can name."""
PROBE_SIZE: Final = HEAD.size + _PROBE.size
"""Bytes of a probe's element."""
_TYPE_REPORT: Final = 1
_TYPE_PROBE: Final = 2
_TYPE_PROBE_ACKNOWLEDGEMENT: Final = 3
_TYPE_CLOSE: Final = 4
_TYPE_PART: Final = 5
_TYPE_PART_ACKNOWLEDGEMENT: Final = 6
_TYPE_NOTICE: Final = 7
SHUTTING_DOWN: Final = 1
REVOKED: Final = 2
KEY_SHARED: Final = 1
"""A notice: another host uses the receiver's key, too."""


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


class Part(NamedTuple):
    """A run of a message on the control channel (`session/channel.py`)."""

    sequence: int
    """Counts the parts that its sender has sent to this far end, from 0."""
    kind: int
    """Of the message, 1..255."""
    last: bool
    """Whether the message ends with it."""
    body: bytes
    """At most `MAX_PART` bytes."""


class PartAcknowledgement(NamedTuple):
    """Which parts have come."""

    expected: int
    """The first sequence number that is missing."""
    beyond: int
    """Bit n is set if `expected` + 1 + n has come."""


class Notice(NamedTuple):
    """What the receiver's user should know."""

    what: int


Control: TypeAlias = Report | Probe | ProbeAcknowledgement | Close | Part | PartAcknowledgement | Notice


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
        case Notice(what):
            return _element(_NOTICE.pack(_TYPE_NOTICE, what))
        case Part(sequence, kind, last, part):
            return _element(_PART.pack(_TYPE_PART, kind, last, sequence) + part)
        case PartAcknowledgement(expected, beyond):
            return _element(_PART_ACKNOWLEDGEMENT.pack(_TYPE_PART_ACKNOWLEDGEMENT, expected, beyond))


def decode(body: Buffer) -> Control | None:
    """The message in an element's body; None for a type this version does not know; raises Malformed."""
    if not len(body):
        raise Malformed(DropReason.CONTROL_MALFORMED, "empty")
    kind = body[0]
    if kind == _TYPE_PART:
        return _decode_part(body)
    layout = {
        _TYPE_REPORT: _REPORT,
        _TYPE_PROBE: _PROBE,
        _TYPE_PROBE_ACKNOWLEDGEMENT: _PROBE,
        _TYPE_CLOSE: _CLOSE,
        _TYPE_PART_ACKNOWLEDGEMENT: _PART_ACKNOWLEDGEMENT,
        _TYPE_NOTICE: _NOTICE,
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
    if kind == _TYPE_PART_ACKNOWLEDGEMENT:
        return PartAcknowledgement(*values)
    if kind == _TYPE_NOTICE:
        return Notice(*values)
    return Close(*values)


def _decode_part(body: Buffer) -> Part:
    """Raises Malformed."""
    if not _PART.size <= len(body) <= _PART.size + MAX_PART:
        raise Malformed(DropReason.CONTROL_MALFORMED, f"a part of {len(body)} bytes")
    _, kind, last, sequence = _PART.unpack_from(body)
    if not kind or last > 1:
        raise Malformed(DropReason.CONTROL_MALFORMED, f"a part of kind {kind}, {last}")
    return Part(sequence, kind, bool(last), bytes(body[_PART.size :]))
