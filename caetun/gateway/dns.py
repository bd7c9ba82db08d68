"""Name servers: /etc/resolv.conf, and systemd-resolved where it runs.

resolv.conf is exchanged for ours, and put back. What was there, a file or a symbolic link, is kept beside it under
another name, not copied, so it comes back as it was; where it is mounted and cannot be exchanged, its content is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from caetun.errors import NetworkError
from caetun.gateway.changes import ResolvConf, ResolvedLink

# fixed by the specification: systemd-resolved.service(8)
RESOLV_CONF: Final = Path("/etc/resolv.conf")
RESOLVED: Final = Path("/run/systemd/resolve/io.systemd.Resolve")
"""Where it answers, if it runs."""
RESOLVED_UPSTREAM: Final = Path("/run/systemd/resolve/resolv.conf")
"""The servers that it asks."""
STUBS: Final = frozenset(("127.0.0.53", "127.0.0.54"))
"""Where it answers those who ask as resolv.conf says."""

# chosen by us
_TOOL_SECONDS: Final = 10.0
_LIMIT: Final = 1 << 16
"""Bytes of resolv.conf that are read."""


# resolv.conf


def servers_in(path: Path) -> list[str]:
    """The name servers in a file of this format; [] if it cannot be read."""
    lines = (line.split() for line in _text(path).splitlines())
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def kept_as(device: str) -> Path:
    """Under which name the file before ours is kept."""
    return RESOLV_CONF.with_name(f"{RESOLV_CONF.name}.before-caetun-{device}")


def is_ours(path: Path, device: str) -> bool:
    """Whether a file is the one that the tunnel on a device has written."""
    return _text(path).startswith(_signature(device))


def write_resolv_conf(change: ResolvConf) -> None:
    """Put ours in its place. If somebody has replaced ours since, his is what is kept now. Raises NetworkError."""
    kept = kept_as(change.device)
    text = _signature(change.device) + (
        f" these name servers are those of the tunnel {change.device}, while it runs.\n"
        f"# What was here before is in {kept}. Is there no such tunnel? caetun undo {change.device}\n"
        + "".join(f"nameserver {server}\n" for server in change.servers)
        + (f"search {' '.join(change.domains)}\n" if change.domains else "")
    )
    try:
        if not is_ours(RESOLV_CONF, change.device):
            _keep(kept)
        if _text(RESOLV_CONF) != text:
            _put(text)
    except OSError as error:
        raise NetworkError(f"{change}: {RESOLV_CONF} cannot be replaced: {error.strerror}") from error


def restore_resolv_conf(change: ResolvConf) -> bool:
    """Put back what was there, unless somebody has replaced ours; returns whether it was. Raises NetworkError."""
    device, kept = change.device, kept_as(change.device)
    try:
        if not is_ours(RESOLV_CONF, device):
            # Another tunnel may have kept ours: then it keeps what we have kept.
            heir = next((each for each in _all_kept() if is_ours(each, device)), None)
            if heir is not None and os.path.lexists(kept):
                kept.replace(heir)
                return True
            kept.unlink(missing_ok=True)
            return False
        if not os.path.lexists(kept):
            RESOLV_CONF.unlink()
        else:
            _put_back(kept)
    except OSError as error:
        raise NetworkError(f"{RESOLV_CONF}: what is in {kept} cannot be put back: {error.strerror}") from error
    return True


def abandoned() -> list[str]:
    """The devices whose tunnels have left files behind."""
    return [each.name.removeprefix(kept_as("").name) for each in _all_kept()]


def _signature(device: str) -> str:
    return f"# caetun {device}:"


def _all_kept() -> list[Path]:
    return sorted(RESOLV_CONF.parent.glob(f"{kept_as('').name}*"))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LIMIT).decode(errors="replace")
    except OSError:
        return ""


def _keep(kept: Path) -> None:
    """A second name for what is there: file or link. Where there can be none, a copy."""
    kept.unlink(missing_ok=True)
    try:
        os.link(RESOLV_CONF, kept, follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError:
        shutil.copy2(RESOLV_CONF, kept, follow_symlinks=False)


def _put(text: str) -> None:
    """Replace the file at one go; where it is mounted, write into it."""
    fresh = RESOLV_CONF.with_name(f".{RESOLV_CONF.name}.caetun")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), "w") as file:
        os.fchmod(file.fileno(), 0o644)  # whatever the umask: every program reads it
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        fresh.replace(RESOLV_CONF)
    except OSError:
        fresh.unlink()
        RESOLV_CONF.write_text(text)


def _put_back(kept: Path) -> None:
    try:
        kept.replace(RESOLV_CONF)
    except OSError:
        RESOLV_CONF.write_bytes(kept.read_bytes())
        kept.unlink()


# systemd-resolved


def tell_resolved(change: ResolvedLink) -> None:
    """Have systemd-resolved ask the tunnel's servers. Raises NetworkError."""
    domains = [*change.domains, *(["~."] if change.everything else [])]
    _resolvectl(change, "dns", change.device, *change.servers)
    _resolvectl(change, "domain", change.device, *(domains or [""]))
    _resolvectl(change, "default-route", change.device, "true" if change.everything else "false")


def revert_resolved(change: ResolvedLink) -> bool:
    """Have it forget them; returns whether there was still something to forget."""
    with contextlib.suppress(NetworkError):  # it has, together with the device
        _resolvectl(change, "revert", change.device)
        return True
    return False


def _resolvectl(change: ResolvedLink, *arguments: str) -> None:
    try:
        result = subprocess.run(
            ["resolvectl", "--no-ask-password", *arguments],
            capture_output=True,
            text=True,
            timeout=_TOOL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkError(f"{change}: resolvectl cannot be run: {error}") from error
    if result.returncode:
        why = result.stderr.strip().partition("\n")[0] or f"exit status {result.returncode}"
        raise NetworkError(f"{change}: resolvectl {arguments[0]} is refused: {why}")
