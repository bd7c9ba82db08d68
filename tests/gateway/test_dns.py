"""resolv.conf is exchanged and put back, whoever else has his hands on it; systemd-resolved is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from caetun.errors import NetworkError
from caetun.gateway import dns
from caetun.gateway.changes import ResolvConf, ResolvedLink

OURS = ResolvConf("tun0", ("10.8.0.2", "fd88::2"), ("corp.example", "lab.example"))


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A resolv.conf to play with."""
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\n")
    path.chmod(0o640)
    monkeypatch.setattr(dns, "RESOLV_CONF", path)
    return path


def test_there_and_back(conf: Path) -> None:
    before = conf.stat()
    dns.write_resolv_conf(OURS)
    assert dns.servers_in(conf) == ["10.8.0.2", "fd88::2"]
    assert conf.read_text().endswith("search corp.example lab.example\n")
    assert conf.stat().st_mode & 0o777 == 0o644
    dns.write_resolv_conf(OURS)
    assert dns.restore_resolv_conf(OURS)
    after = conf.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert os.listdir(conf.parent) == ["resolv.conf"]
    assert not dns.restore_resolv_conf(OURS)


def test_where_there_was_none_there_is_none(conf: Path) -> None:
    conf.unlink()
    dns.write_resolv_conf(OURS)
    assert dns.restore_resolv_conf(OURS)
    assert os.listdir(conf.parent) == []


def test_a_link_even_to_nowhere(conf: Path) -> None:
    conf.unlink()
    conf.symlink_to("../run/nowhere")
    dns.write_resolv_conf(OURS)
    assert not conf.is_symlink()
    assert dns.restore_resolv_conf(OURS)
    assert os.readlink(conf) == "../run/nowhere"


def test_killed_before_ours_was_there(conf: Path) -> None:
    dns._keep(dns.kept_as("tun0"))
    assert not dns.restore_resolv_conf(OURS)
    assert conf.read_text() == "nameserver 192.0.2.1\n"
    assert os.listdir(conf.parent) == ["resolv.conf"]


def test_somebody_elses_is_left_alone(conf: Path) -> None:
    dns.write_resolv_conf(OURS)
    conf.write_text("nameserver 192.0.2.7\n")
    assert not dns.restore_resolv_conf(OURS)
    assert dns.servers_in(conf) == ["192.0.2.7"]
    assert os.listdir(conf.parent) == ["resolv.conf"]


def test_somebody_elses_is_what_comes_back_if_ours_came_after(conf: Path) -> None:
    dns.write_resolv_conf(OURS)
    conf.write_text("nameserver 192.0.2.7\n")
    dns.write_resolv_conf(OURS)
    assert dns.restore_resolv_conf(OURS)
    assert dns.servers_in(conf) == ["192.0.2.7"]


@pytest.mark.parametrize("first", ["tun0", "tun1"])
def test_two_tunnels(conf: Path, first: str) -> None:
    changes = {device: ResolvConf(device, ("10.8.0.2",)) for device in ("tun0", "tun1")}
    for change in changes.values():
        dns.write_resolv_conf(change)
    dns.restore_resolv_conf(changes.pop(first))
    (last,) = changes.values()
    assert dns.is_ours(conf, last.device)
    dns.restore_resolv_conf(last)
    assert dns.servers_in(conf) == ["192.0.2.1"]
    assert os.listdir(conf.parent) == ["resolv.conf"]


def test_after_the_machine_was_switched_off(conf: Path) -> None:
    dns.write_resolv_conf(OURS)
    assert dns.abandoned() == ["tun0"]
    assert dns.restore_resolv_conf(ResolvConf("tun0", ()))
    assert dns.abandoned() == []


def test_a_directory_that_is_not_there(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "RESOLV_CONF", conf.parent / "none" / "resolv.conf")
    with pytest.raises(NetworkError, match="cannot be replaced"):
        dns.write_resolv_conf(OURS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ResolvedLink("tun0", ("10.8.0.2", "fd88::2"), ("corp.example",), everything=True),
            ["dns tun0 10.8.0.2 fd88::2", "domain tun0 corp.example ~.", "default-route tun0 true"],
        ),
        (
            ResolvedLink("tun0", ("10.8.0.2",), ("corp.example",)),
            ["dns tun0 10.8.0.2", "domain tun0 corp.example", "default-route tun0 false"],
        ),
    ],
)
def test_systemd_resolved_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: ResolvedLink, said: list[str]
) -> None:
    tool = tmp_path / "resolvectl"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    dns.tell_resolved(change)
    assert dns.revert_resolved(change)
    assert (tmp_path / "said").read_text().splitlines() == [*said, "revert tun0"]


def test_systemd_resolved_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "resolvectl"
    tool.write_text("#!/bin/sh\necho 'Failed to set DNS configuration: Access denied' >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    change = ResolvedLink("tun0", ("10.8.0.2",))
    with pytest.raises(NetworkError, match="resolvectl dns is refused: Failed to set DNS configuration: Access denied"):
        dns.tell_resolved(change)
    assert not dns.revert_resolved(change)
