"""`caetun demo`: the whole program, in namespaces, measured by itself."""

from __future__ import annotations

import json

import pytest

from caetun.cli.demo import Result, _table
from caetun.cli.main import main


@pytest.mark.needs("namespaces", "tun")
@pytest.mark.parametrize("mode", ["tun", "tap"])
def test_the_demo_carries_everything(mode: str, capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["demo", "--mode", mode, "--seconds", "0.2", "--json"])
    out, err = capfd.readouterr()
    assert status == 0, err
    (result,) = json.loads(out)
    assert result["device"] == mode
    assert 0 < result["rtt"] < 0.1
    assert min(result["up"], result["down"]) > 10e6
    assert result["burst_received"] > 2500
    assert "the tunnel is up" in err


@pytest.mark.needs("namespaces", "tun")
def test_the_demo_says_in_one_line_why_it_failed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("caetun.cli.demo._PORT", 0)  # nobody can be called there
    assert main(["demo", "--mode", "tun"]) != 0
    complaint = capfd.readouterr().err
    assert complaint.startswith("caetun: the client ended: --connect: ")
    assert complaint.count("\n") == 1


def test_the_demo_refuses_no_time_at_all(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--seconds", "0"]) == 2
    assert "--seconds must be more than 0, not 0" in capfd.readouterr().err


def test_the_table_is_aligned() -> None:
    fast = Result("tun", "udp", 0.0005, 4.6e9, 12e9, 5000, 4999, 123_456, 0)
    slow = Result("tap", "udp", 0.0123, 950e6, 80e6, 5000, 5000, 7, 1)
    assert _table([fast, slow]).splitlines() == [
        "",
        "device  transport  RTT       TCP up       TCP down      UDP burst       datagrams  drops",
        "tun     udp        0.50 ms   4.60 Gbit/s  12.00 Gbit/s  4,999 of 5,000  123,456    0",
        "tap     udp        12.30 ms  950 Mbit/s   80 Mbit/s     5,000 of 5,000  7          1",
    ]
