"""Logs: lines for people and programs, and silence about what repeats."""

from __future__ import annotations

import io
import itertools
import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun import logs
from caetun.keyfiles import Secret

KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    """pytest has handlers of its own on the root logger."""
    root, ours = logging.getLogger(), logging.getLogger(logs.ROOT)
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def told(form: str, level: str = "info") -> tuple[io.StringIO, logging.Logger]:
    stream = io.StringIO()
    logs.set_up(level, form, stream)
    return stream, logs.logger("link")


def test_a_line_for_people() -> None:
    stream, log = told("text")
    logs.event(log, logging.INFO, "link-up", "up via 10.0.0.1:4500", mtu=1472, rtt=0.0123456789, path="a b", size=2.5)
    clock, rest = stream.getvalue().split(" ", 1)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}", clock)
    assert rest == 'INFO  link: up via 10.0.0.1:4500 mtu=1472 rtt=0.0123457 path="a b" size=2.5\n'


def test_messages_stand_in_one_column() -> None:
    stream, log = told("text", "debug")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logs.event(log, level, "some", "words")
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["DEBUG", "INFO", "WARN", "ERROR"]
    assert {line.index("link:") for line in lines} == {len("12:34:56.789 DEBUG ")}


def test_a_line_for_programs() -> None:
    stream, log = told("json")
    logs.event(
        log, logging.WARNING, "counters", "so far", records=3, drops={"record.forged": 2}, gone=None, sizes=(1, 2)
    )
    entry = json.loads(stream.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("ts"))
    assert entry == {
        "level": "warning",
        "component": "link",
        "event": "counters",
        "message": "so far",
        "records": 3,
        "drops": {"record.forged": 2},
        "gone": None,
        "sizes": [1, 2],
    }


def test_a_table_for_people() -> None:
    stream, log = told("text")
    logs.event(log, logging.INFO, "counters", "so far", drops={"record.forged": 2, "peer.no-session": 1}, none={})
    assert stream.getvalue().endswith("so far drops=record.forged:2,peer.no-session:1 none=none\n")


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_and_no_packet_is_shown(form: str) -> None:
    stream, log = told(form)
    logs.event(
        log, logging.INFO, "key", "read", secret=Secret(KEY), raw=KEY, view=memoryview(KEY), many=[KEY, {"k": KEY}]
    )
    line = stream.getvalue()
    assert Secret(KEY).fingerprint in line
    assert line.count("<32 bytes>") == 4
    assert "x04" not in line
    assert KEY.hex()[:6] not in line


@given(st.text())
@pytest.mark.parametrize("form", ["text", "json"])
def test_one_event_is_one_line_whatever_a_peer_put_in_it(form: str, text: str) -> None:
    record = logging.LogRecord("caetun.link", logging.INFO, "", 0, "%s", (text,), None)
    record.event_id, record.fields = "peer-name", {"name": text}
    line = (logs.JsonLines() if form == "json" else logs.TextLines()).format(record)
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    assert "\x9b" not in line


def test_numbers_that_json_lacks() -> None:
    stream, log = told("json")
    logs.event(log, logging.INFO, "odd", "numbers", a=float("inf"), b=float("nan"))
    entry = json.loads(stream.getvalue(), parse_constant=lambda word: pytest.fail(word))
    assert (entry["a"], entry["b"]) == ("inf", "nan")


def test_fields_do_not_hide_what_the_log_itself_says() -> None:
    _, log = told("json")
    with pytest.raises(ValueError, match="event"):
        logs.event(log, logging.INFO, "some", "words", event="other")


def test_levels() -> None:
    stream, log = told("text", "warning")
    logs.event(log, logging.INFO, "some", "unheard")
    logs.event(log, logging.WARNING, "some", "heard")
    logging.getLogger("a.library").info("unheard")
    logging.getLogger("a.library").warning("asyncio is unhappy")
    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
        "WARN  link: heard",
        "WARN  a.library: asyncio is unhappy",
    ]


def test_set_up_again_takes_the_place_of_the_first() -> None:
    first, log = told("text")
    second, _ = told("json", "debug")
    logs.event(log, logging.DEBUG, "some", "words")
    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["level"] == "debug"


def test_a_bug_leaves_its_traceback() -> None:
    for form in ("text", "json"):
        stream, log = told(form)
        try:
            raise RuntimeError("a bug")
        except RuntimeError:
            log.exception("cannot go on")
        assert "Traceback" in stream.getvalue()
        assert "RuntimeError: a bug" in stream.getvalue()


def test_a_broken_stream_does_not_stop_the_tunnel(capsys: pytest.CaptureFixture[str]) -> None:
    stream, log = told("text")
    stream.close()
    logs.event(log, logging.INFO, "some", "words")
    assert capsys.readouterr().err == ""


def test_under_systemd_lines_begin_with_their_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        logs.set_up("debug", "text", stream)
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            logs.event(logs.logger("link"), level, "some", "words")
        logs.set_up("info", "json", stream)
        logs.event(logs.logger("link"), logging.INFO, "some", "words")
        stream.seek(0)
        *text, last = stream.read().splitlines()
    assert text == ["<7>link: words", "<6>link: words", "<4>link: words", "<3>link: words"]
    assert last.startswith('<6>{"ts"')


def test_output_redirected_under_systemd_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    with (tmp_path / "log").open("w+") as stream:
        logs.set_up("info", "text", stream)
        logs.event(logs.logger("link"), logging.INFO, "some", "words")
        stream.seek(0)
        assert not stream.read().startswith("<")
    assert not logs.is_journal("8:12345", io.StringIO())


# the rate limit


def test_the_first_at_once_then_one_summary_a_minute() -> None:
    limit = logs.RateLimit(interval=60)
    assert limit.count("forged", now=100.0) == 1
    assert [limit.count("forged", now=100.0 + second) for second in range(1, 60)] == [0] * 59
    assert limit.count("replayed", now=130.0) == 1, "another kind is news"
    assert limit.count("forged", now=160.0) == 60
    assert limit.count("forged", now=161.0) == 0


def test_a_summary_is_due_although_nothing_new_came() -> None:
    limit = logs.RateLimit(interval=60)
    assert limit.next_deadline() is None
    limit.count("forged", now=0.0)
    assert limit.next_deadline() is None
    limit.count("forged", now=1.0)
    limit.count("forged", now=2.0)
    assert limit.next_deadline() == 60.0
    assert limit.due(now=59.9) == {}
    assert limit.due(now=60.0) == {"forged": 2}
    assert limit.next_deadline() is None
    assert limit.due(now=200.0) == {}
    assert limit.count("forged", now=201.0) == 1, "after a quiet minute it is news again"


def test_its_table_has_a_cap() -> None:
    limit = logs.RateLimit(interval=60, limit=4)
    assert [limit.count(kind, now=0.0) for kind in range(4)] == [1] * 4
    assert [limit.count(kind, now=1.0) for kind in range(4, 100)] == [1] + [0] * 95, "the others share one entry"
    assert limit.due(now=61.0) == {"others": 95}
    assert limit.count("new", now=200.0) == 1, "those that fell silent made room"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 100)), max_size=60))
def test_every_event_is_reported_once_in_the_end(steps: list[tuple[str, float]]) -> None:
    limit = logs.RateLimit(interval=60)
    now, reported = 0.0, 0
    lines: list[tuple[str, float]] = []
    for kind, pause in steps:
        now += pause
        times = limit.count(kind, now)
        reported += times
        lines += [(kind, now)] if times else []
    while (deadline := limit.next_deadline()) is not None:
        due = limit.due(max(now, deadline))
        assert due, "a deadline that is met is a deadline that goes"
        reported += sum(due.values())
    assert reported == len(steps)
    for kind in "abc":
        when = [at for each, at in lines if each == kind]
        assert all(later - earlier >= 59.999 for earlier, later in itertools.pairwise(when))


def test_repeated_events_are_summed_up() -> None:
    stream, log = told("json")
    repeated = logs.RepeatedEvents(log, logs.RateLimit(interval=60))
    for second in range(5):
        repeated.event(second, logging.WARNING, "forged", f"forged record {second}", source="192.0.2.1")
    assert repeated.next_deadline() == 60.0
    repeated.flush(now=60.0)
    first, summary = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["message"], first["source"], "times" in first) == ("forged record 0", "192.0.2.1", False)
    assert (summary["event"], summary["message"], summary["level"]) == ("forged", "forged record 4", "warning")
    assert summary["times"] == 4


class Clock:
    """A loop's timer, in virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        self.calls.append((self.now + seconds, function))

    def run(self, until: float) -> None:
        while due := [call for call in self.calls if call[0] <= until]:
            first = min(due, key=lambda call: call[0])
            self.calls.remove(first)
            self.now = first[0]
            first[1]()
        self.now = until


def test_the_last_summary_comes_although_nothing_happens_any_more() -> None:
    stream, log = told("json")
    clock = Clock()
    repeated = logs.RepeatedEvents(log, logs.RateLimit(interval=60), clock.call_later)

    def happen(name: str, times: int) -> None:
        for _ in range(times):
            repeated.event(clock.now, logging.WARNING, name, "words")

    def lines() -> list[tuple[str, int]]:
        entries = [json.loads(line) for line in stream.getvalue().splitlines()]
        return [(entry["event"], entry.get("times", 1)) for entry in entries]

    happen("moved", 3)
    clock.run(until=20.0)
    happen("forged", 2)
    assert len(clock.calls) == 1, "one timer, whatever happens"
    clock.run(until=59.0)
    assert lines() == [("moved", 1), ("forged", 1)]
    clock.run(until=61.0)
    assert lines()[2:] == [("moved", 2)]
    happen("moved", 5)
    clock.run(until=90.0)
    assert lines()[3:] == [("forged", 1)]
    clock.run(until=1000.0)
    assert lines()[4:] == [("moved", 5)]
    assert clock.calls == [], "nothing to wait for"


def test_what_is_held_back_is_told_at_the_end() -> None:
    stream, log = told("json")
    repeated = logs.RepeatedEvents(log)
    for _ in range(3):
        repeated.event(0.0, logging.WARNING, "forged", "words")
    repeated.flush(math.inf)
    assert [json.loads(line).get("times") for line in stream.getvalue().splitlines()] == [None, 2]
