"""`caetun check`: every mistake at once, with its line; and of a sound file, what it does and who has said so."""

from __future__ import annotations

from pathlib import Path

import pytest

from caetun.cli.main import main

HUB = """\
mode = "tap"
listen = ":4500"
key = "key"
negotiation = "server"
[pool]
network = "10.88.0.0/24"
[push]
route = ["10.1.0.0/16"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("CAETUN_MTU", "CAETUN_KEEPALIVE"):
        monkeypatch.delenv(variable, raising=False)
    assert main(["genkey", "-o", str(tmp_path / "key")]) == 0
    return tmp_path


def write(folder: Path, text: str) -> str:
    path = folder / "hub.toml"
    path.write_text(text)
    return str(path)


def test_a_sound_file(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAETUN_KEEPALIVE", "25s")
    monkeypatch.setenv("CAETUN_MTUU", "1")
    assert main(["check", write(folder, HUB), "--mtu", "1400"]) == 0
    out, err = capsys.readouterr()
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert "file, line 6" in rows["pool-network"]
    assert "flag --mtu" in rows["mtu"]
    assert "environment, CAETUN_KEEPALIVE" in rows["keepalive"]
    assert "clients reach this network through the tunnel" in rows["push-route"]
    assert "cipher" not in rows
    assert out.endswith(
        "is sound: carries Ethernet frames, waits on udp://:4500; tells its clients what to use (10.88.0.0/24)\n"
    )
    assert err == "caetun: warning: CAETUN_MTUU: no option is named so: did you mean CAETUN_MTU?\n"


def test_with_the_defaults(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", write(folder, HUB), "--all"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "default" in rows["cipher"]


def test_every_mistake_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(folder, 'mode = "tpa"\nlistn = ":1"\nmtu = 12\n[pool]\nnetwrk = 1\nnetwork = "10.88.0.1/24"\n')
    assert main(["check", path]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"caetun: {path}: line 1: mode: 'tpa' is not known: give tun (IP packets) or tap (Ethernet frames)",
        f"caetun: {path}: line 2: listn: no such option: did you mean listen?",
        f"caetun: {path}: line 3: mtu: 12 is out of bounds: give 576..65500 bytes",
        f"caetun: {path}: line 5: pool-netwrk: no such option: did you mean pool-network?",
        f"caetun: {path}: line 6: pool-network: '10.88.0.1/24' is an address in a network: "
        "write the network, 10.88.0.0/24",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (HUB.replace("listen", "connect").replace('":4500"', '"h:1"'), "--pool-network: is for a server"),
        (HUB.replace('"server"', '"off"'), "--pool-network: is for a server"),
        (HUB.replace("[pool]", 'pull-filter = "ignore dns"\n[pool]'), "--pull-filter: is for a client"),
        (HUB.replace('key = "key"', 'key = "none"'), "none: cannot be read"),
        (HUB.replace("10.1.0.0/16", "0.0.0.0/0"), "is a default route: let clients send everything with push-gateway"),
        (HUB.replace('"10.88.0.0/24"', '"10.88.0.0/31"'), "has no room for a server and a client"),
        (HUB.replace("[push]", "[push]\ndns = 'ns.example'"), "is not an address"),
        (HUB.replace("[push]", "reserved = '10.88.0.9-10.88.0.2'\n[push]"), "write the lower address first"),
        (HUB.replace("[push]", "reserved = 'bob=10.88.0.2-10.88.0.9'\n[push]"), "reserves a range for one peer"),
    ],
)
def test_what_does_not_go_together(folder: Path, text: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", write(folder, text)]) == 2
    err = capsys.readouterr().err
    assert what in err
    assert err.count("\n") == 1


def test_a_file_that_is_all_a_host_needs_holds_its_key(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = (folder / "key").read_text().strip()
    path = write(folder, f'connect = "h:1"\npeer = "{"A" * 42}E="\nprivate-key = "{key}"\n')
    Path(path).chmod(0o600)
    assert main(["check", path]) == 0
    out, err = capsys.readouterr()
    assert key not in out + err
    assert err == ""
    Path(path).chmod(0o644)
    assert main(["check", path]) == 0
    assert "other users can read this key" in capsys.readouterr().err
