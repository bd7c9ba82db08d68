"""Structured logging: every message is an event with a name, a sentence and fields.

    12:34:56.789 INFO  tunnel: tun0 (tun, MTU 1500) listening on udp [::]:4500 device=tun0      --log-format text
    {"ts": "2026-01-31T12:34:56.789Z", "level": "info", "component": "tunnel", "event": "start", "message": ...,
     "device": "tun0"}                                                                          --log-format json

The component is the logger's name below `caetun`. Under systemd each line begins with its priority, `<6>`
(sd-daemon(3)), and text leaves time and level to the journal.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final, TextIO, TypeAlias

# fixed by the specification
_PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))
"""Least level and its syslog priority (RFC 5424 section 6.2.1), most severe first."""
_RESERVED: Final = frozenset({"ts", "level", "component", "event", "message", "exception"})
"""Keys of a JSON line that a field must not take."""

# chosen by us
_SHORT: Final = {logging.WARNING: "WARN", logging.CRITICAL: "FATAL"}
"""Level names of more than five letters, cut so that messages stand in one column."""
ROOT: Final = "caetun"
SUMMARY_INTERVAL: Final = 60.0
"""Seconds between two lines about the same repeated event."""
_REPEATS_LIMIT: Final = 256
"""Events told apart by one `RateLimit`; those beyond share one entry."""
_OTHERS: Final = "others"
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
"""One event is one line, and a terminal obeys nothing that came from a peer."""


def logger(component: str) -> logging.Logger:
    """The logger of a part of the program: `link`, `session`, `device`..."""
    return logging.getLogger(f"{ROOT}.{component}")


def event(log: logging.Logger, level: int, event_id: str, message: str, /, **fields: object) -> None:
    """Log one event: `event_id` for programs never changes, `message` is for people. Of bytes only the length shows."""
    if not log.isEnabledFor(level):
        return
    clash = _RESERVED.intersection(fields)
    if clash:
        raise ValueError(f"field names taken by the log itself: {sorted(clash)}")
    log.log(level, "%s", message, extra={"event_id": event_id, "fields": fields})


def set_up(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send events of `level` (error, warning, info, debug) and above to a stream (standard error), as text or json.

    May be called again, for instance when the configuration is read anew.
    """
    target = sys.stderr if stream is None else stream
    journal = is_journal(os.environ.get("JOURNAL_STREAM", ""), target)
    handler = _Handler(target)
    handler.setFormatter(JsonLines(journal) if form == "json" else TextLines(journal))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries speak only when something is wrong
    logging.getLogger(ROOT).setLevel(level.upper())


def is_journal(declared: str, stream: TextIO) -> bool:
    """Whether a stream is the one that JOURNAL_STREAM declares, `device:inode` (systemd.exec(5)).

    The variable alone proves nothing: it is inherited by children whose output goes elsewhere.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return declared == f"{status.st_dev}:{status.st_ino}"


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to a stream; when that is gone or full, the tunnel goes on without the line."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Stay silent: the standard answer is a traceback on the very stream that just failed."""


class TextLines(logging.Formatter):
    """One line for people; a traceback, which only a bug makes, follows below."""

    def __init__(self, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        words = [f"{_component(record)}: {record.getMessage()}"]
        words += [f"{name}={_text_value(value)}" for name, value in _fields(record).items()]
        line = " ".join(words).translate(_CONTROLS)
        if not self._journal:
            clock = time.strftime("%H:%M:%S", time.localtime(record.created))
            line = f"{clock}.{int(record.msecs):03d} {_SHORT.get(record.levelno, record.levelname):<5} {line}"
        lines = [line]
        if record.exc_info:
            lines += self.formatException(record.exc_info).splitlines()
        return "\n".join(_priority(record) + each for each in lines) if self._journal else "\n".join(lines)


class JsonLines(logging.Formatter):
    """One JSON object a line, for programs."""

    def __init__(self, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, object] = {
            "ts": f"{clock}.{int(record.msecs):03d}Z",
            "level": _level(record),
            "component": _component(record),
            "event": getattr(record, "event_id", "message"),
            "message": record.getMessage(),
        }
        entry |= {name: _json_value(value) for name, value in _fields(record).items()}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        import json  # here: most logs are text

        return (_priority(record) if self._journal else "") + json.dumps(entry)


Timer: TypeAlias = Callable[[float, Callable[[], None]], object]
"""Calls the function after so many seconds: `asyncio.loop.call_later`."""


@dataclass(slots=True)
class _Entry:
    since: float
    held: int = 0


@dataclass(slots=True)
class RateLimit:
    """How often to speak of what keeps happening: at once the first time, then at most once an interval, with a count.

    Pure: `now` is monotonic seconds. Holds at most `limit` kinds of event, and one for all others.
    """

    interval: float = SUMMARY_INTERVAL
    """Seconds."""
    limit: int = _REPEATS_LIMIT
    _entries: dict[Hashable, _Entry] = field(default_factory=dict)

    def count(self, kind: Hashable, now: float) -> int:
        """It happened again: how many to report now. 1 the first time, more for a summary, 0 to stay silent."""
        if kind not in self._entries and len(self._entries) >= self.limit:
            self._forget_idle(now)
            if len(self._entries) >= self.limit:
                kind = _OTHERS
        entry = self._entries.get(kind)
        if entry is None:
            self._entries[kind] = _Entry(now)
            return 1
        entry.held += 1
        if now < entry.since + self.interval:
            return 0
        held, entry.held, entry.since = entry.held, 0, now
        return held

    def due(self, now: float) -> dict[Hashable, int]:
        """Kinds whose interval is over, and how often each was held back: what to report although nothing new came."""
        due: dict[Hashable, int] = {}
        for kind, entry in self._entries.items():
            if entry.held and now >= entry.since + self.interval:
                due[kind] = entry.held
                entry.held, entry.since = 0, now
        self._forget_idle(now)
        return due

    def next_deadline(self) -> float | None:
        """When `due` has something to tell; None if nothing is held back."""
        return min((entry.since + self.interval for entry in self._entries.values() if entry.held), default=None)

    def _forget_idle(self, now: float) -> None:
        """Drop what has been quiet for an interval: when it happens again, it is news."""
        idle = [k for k, entry in self._entries.items() if not entry.held and now >= entry.since + self.interval]
        for kind in idle:
            del self._entries[kind]


class RepeatedEvents:
    """Logs events that a peer can cause at will, at most one line of each an interval."""

    def __init__(self, log: logging.Logger, limit: RateLimit | None = None, call_later: Timer | None = None) -> None:
        """`call_later`: what a loop has, so that summaries come in time; without, `flush` is for the caller to call."""
        self._log = log
        self._limit = RateLimit() if limit is None else limit
        self._call_later = call_later
        self._flush_at: float | None = None
        """When `call_later` will call, if it was asked to."""
        self._last: dict[Hashable, tuple[int, str]] = {}

    def event(self, now: float, level: int, event_id: str, message: str, /, **fields: object) -> None:
        """Like `logs.event`, but repetitions of one `event_id` are counted and summed up."""
        self._last[event_id] = (level, message)
        times = self._limit.count(event_id, now)
        if times:
            more = {"times": times} if times > 1 else {}
            event(self._log, level, event_id, message, **fields, **more)
        self._arm(now)

    def _arm(self, now: float) -> None:
        """Have `flush` called when it is due."""
        due = self.next_deadline()
        if self._call_later is not None and self._flush_at is None and due is not None:
            self._flush_at = due
            self._call_later(max(0.0, due - now), self._timer)

    def _timer(self) -> None:
        now, self._flush_at = self._flush_at, None
        assert now is not None
        self.flush(now)
        self._arm(now)

    def flush(self, now: float) -> None:
        """Log the summaries that are due."""
        for kind, times in self._limit.due(now).items():
            level, message = self._last.get(kind, (logging.INFO, "other repeated events"))
            event(self._log, level, str(kind), message, times=times)

    def next_deadline(self) -> float | None:
        """When to call `flush`."""
        return self._limit.next_deadline()


def _level(record: logging.LogRecord) -> str:
    return record.levelname.lower()


def _component(record: logging.LogRecord) -> str:
    return record.name.removeprefix(f"{ROOT}.")


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields: Mapping[str, object] = getattr(record, "fields", {})
    return fields


def _priority(record: logging.LogRecord) -> str:
    return next(f"<{priority}>" for least, priority in _PRIORITIES if record.levelno >= least)


def _text_value(value: object) -> str:
    """A field for people: numbers short, words as they are, anything with spaces or quotes in quotes."""
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1 else f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{_text_value(item)}" for key, item in value.items()) or "none"
    text = str(_json_value(value))
    if text and not any(mark in text for mark in ' "='):
        return text
    import json  # here: a start need not wait for it

    return json.dumps(text)


def _json_value(value: object) -> object:
    """A field for programs. Bytes are packets or keys: neither belongs in a log."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such numbers
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_json_value(item) for item in value]
    return str(value)
