"""The command line as a whole: what is printed where, and exit statuses."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from caetun import __version__
from caetun.cli.main import COMMANDS, main
from caetun.endpoint import Endpoint
from caetun.errors import ConfigurationError, DeviceError
from caetun.options import DeviceRef
from caetun.settings import OPTIONS, Settings
from caetun.types import Mode

LEAST = ["--listen", ":4500", "--secret-file", "s.key"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings the daemon was started with."""
    runs: list[Settings] = []

    def run(settings: Settings) -> int:
        runs.append(settings)
        return 0

    daemon_is(monkeypatch, run)
    return runs


def daemon_is(monkeypatch: pytest.MonkeyPatch, run: Callable[[Settings], int]) -> None:
    """Put a function in the daemon's place."""
    daemon = types.ModuleType("caetun.daemon.run")
    daemon.__dict__["run"] = run
    monkeypatch.setitem(sys.modules, "caetun.daemon.run", daemon)


def daemon_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(settings: Settings) -> int:
        raise error

    daemon_is(monkeypatch, run)


@pytest.mark.parametrize("command", [[], ["run"]])
def test_flags_become_settings(started: list[Settings], command: list[str]) -> None:
    flags = ["--connect", "a:1", "--connect", "b:2", "--mode", "tap", "--no-offload", "-v", "--rekey-after", "5"]
    assert main([*command, *LEAST, *flags]) == 0
    (settings,) = started
    assert settings.listen == (Endpoint("udp", "", 4500),)
    assert settings.connect == (Endpoint("udp", "a", 1), Endpoint("udp", "b", 2))
    assert (settings.mode, settings.offload, settings.verbose, settings.rekey_after) == (Mode.TAP, False, True, 5.0)


def test_a_flag_wins_over_the_file(started: list[Settings], tmp_path: Path) -> None:
    path = tmp_path / "caetun.toml"
    path.write_text('listen = ":4500"\nsecret-file = "s.key"\noffload = false\nlog-level = "error"\n')
    assert main(["--config", str(path), "--offload"]) == 0
    assert (started[0].offload, started[0].log_level) == (True, "error")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "where to: neither --listen nor --connect given"),
        (["--mtuu", "1400"], "--mtuu: no such option: did you mean --mtu?"),
        (["--zigzag=red"], "--zigzag: no such option: see caetun --help"),
        (["--mt", "1400"], "--mt: no such option: did you mean --mtu?"),
        (["--mtu"], "--mtu: expected one argument: see caetun --help"),
        ([*LEAST, "--mtu", "9"], "--mtu: 9 is out of bounds: give 576..65500 bytes"),
        ([*LEAST, "surplus"], "surplus: no such option"),
        (["genkeys"], "genkeys: no such command: did you mean genkey?"),
        (["fly"], "fly: no such command: choose from run, genkey"),
        (["ttun"], "the following arguments are required: DEV, LOCAL_IP"),
        (["--transport", "gopher", *LEAST], "--transport: 'gopher' is not a transport: give auto, or some of"),
        (["--config", "/does/not/exist"], "/does/not/exist: cannot be read: No such file or directory"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    started: list[Settings], capsys: pytest.CaptureFixture[str], argv: list[str], told: str
) -> None:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"caetun: {told}")
    assert err.count("\n") == 1
    assert started == []


@pytest.mark.parametrize(
    ("error", "status"), [(ConfigurationError("s.key: is\nempty: make one"), 2), (DeviceError("tun0: busy: wait"), 4)]
)
def test_errors_of_the_daemon(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, status: int
) -> None:
    daemon_raises(monkeypatch, error)
    assert main(LEAST) == status
    assert capsys.readouterr().err == f"caetun: {str(error).replace(chr(10), ' ')}\n"


def test_a_far_ends_words_do_nothing_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(settings: Settings) -> int:
        raise ConfigurationError("the hub refuses: \x1b]0;a title\x07\nno\u202e")

    daemon_is(monkeypatch, run)
    main(LEAST)
    assert capsys.readouterr().err == "caetun: the hub refuses: ?]0;a title? no?\n"


def test_interruption_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    daemon_raises(monkeypatch, KeyboardInterrupt())
    assert main(LEAST) == 130
    assert capsys.readouterr() == ("", "")


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon_raises(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(LEAST)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"caetun {__version__}\n"


def test_help_tells_of_every_option_and_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for option in OPTIONS.values():
        assert (f" {option.flag}" in text) is not option.hidden, option.flag
    for name, command in COMMANDS.items():
        assert f"  {name} " in text
        assert command.purpose in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, "--help"]) == 0
    assert "usage: caetun" in capsys.readouterr().out


def test_ttun(started: list[Settings]) -> None:
    assert main(["ttun", "tun0", "10.0.1.1", "9000", "10.0.1.2", "9001", "--secret-file", "s.key", "-v"]) == 0
    (settings,) = started
    assert settings.dev == DeviceRef("tun0")
    assert settings.listen == (Endpoint("udp", "10.0.1.1", 9000),)
    assert settings.connect == (Endpoint("udp", "10.0.1.2", 9001),)
    assert (settings.mode, settings.manage_device, settings.address) == (None, False, ())
    assert (settings.secret_file, settings.verbose) == (Path("s.key"), True)


def test_ttun_over_ipv6(started: list[Settings]) -> None:
    assert main(["ttun", "tun0", "fe80::1%eth0", "9000", "fe80::2%eth0", "9000", "--secret-file", "s.key"]) == 0
    assert started[0].listen == (Endpoint("udp", "fe80::1%eth0", 9000),)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tun0", "hub.example", "1", "10.0.0.2", "1"], "LOCAL_IP: 'hub.example' is not an IP address"),
        (["tun0", "10.0.0.1", "1", "10.0.0", "1"], "REMOTE_IP: '10.0.0' is not an IP address"),
        (["tun0", "10.0.0.1", "1", "fd00::2", "1"], "REMOTE_IP: fd00::2 and 10.0.0.1 are of two IP versions"),
        (["tun0", "10.0.0.1", "1", "10.0.0.2", "0"], "--connect: '10.0.0.2:0' has port 0"),
        (["tun0", "10.0.0.1", "x", "10.0.0.2", "1"], "--listen: '10.0.0.1:x' has port 'x'"),
        (["a/b", "10.0.0.1", "1", "10.0.0.2", "1"], "--dev: 'a/b' is not an interface name"),
        (["tun0", "10.0.0.1", "1", "10.0.0.2", "1", "--mtu", "9000"], "--mtu: no such option"),
    ],
)
def test_ttun_mistakes(
    started: list[Settings], capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["ttun", *arguments, "--secret-file", "s.key"]) == 2
    assert capsys.readouterr().err.startswith(f"caetun: {told}")
    assert started == []


def test_output_nobody_reads_is_no_error() -> None:
    program = "import sys; from caetun.cli.main import main; sys.exit(main(['--help']))"
    # Unbuffered, argparse writes by itself and keeps the failure to itself.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_mistyped_flag_is_told_without_loading_what_the_daemon_needs() -> None:
    program = (
        "import sys; from caetun.cli.main import main; main(['--listen', ':1'])\n"
        "print(*{'asyncio', 'pyroute2', 'cryptography', 'tomllib', 'uvloop'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "\n"
    assert ended.stderr.startswith("caetun: keys: none given")
