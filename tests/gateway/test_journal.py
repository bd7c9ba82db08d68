"""The state file: whole or not there, and with one owner."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from caetun.errors import NetworkError
from caetun.gateway.changes import Rule, Sysctl
from caetun.gateway.journal import Entry, Journal, journals

ENTRIES = [Entry(Rule(4, 31900, 254)), Entry(Sysctl("net/ipv4/ip_forward", "1"), {"net/ipv4/ip_forward": "0"})]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new", "tun0")
    assert journal.read() == []
    assert journal.claim()
    journal.write(ENTRIES)
    assert Journal(tmp_path / "new", "tun0").read() == ENTRIES
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert [each.device for each in journals(tmp_path / "new")] == ["tun0"]
    journal.write([])
    journal.release()
    assert list((tmp_path / "new").iterdir()) == []


def test_it_has_one_owner(tmp_path: Path) -> None:
    one, other = Journal(tmp_path, "tun0"), Journal(tmp_path, "tun0")
    assert one.claim()
    assert not other.claim()
    assert Journal(tmp_path, "tun1").claim()
    one.release()
    one.release()
    assert other.claim()


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "{}", '{"format": 9, "changes": []}', '{"format": 1, "changes": [{"change": {}}]}']
)
def test_what_makes_no_sense_is_not_acted_upon(tmp_path: Path, text: str) -> None:
    journal = Journal(tmp_path, "tun0")
    journal.path.write_text(text)
    with pytest.raises(NetworkError, match=r"tun0\.undo"):
        journal.read()


def test_changes_of_another_network_are_none_of_ours(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "tun0")
    assert not journal.elsewhere
    journal.write(ENTRIES)
    assert not journal.elsewhere
    raw = json.loads(journal.path.read_text())
    journal.path.write_text(json.dumps({**raw, "network": raw["network"] + 1}))
    assert journal.elsewhere


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NetworkError, match="cannot be kept"):
        Journal(tmp_path / "file" / "sub", "tun0").claim()
