"""The side that is asked: credentials on disk, and codes that are good once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from caetun.auth.totp import totp
from caetun.daemon import applicant
from caetun.daemon.applicant import Applicant, read_credentials
from caetun.errors import ConfigurationError
from caetun.wire.authentication import Ask, Field, Message, Reply


def test_credentials(tmp_path: Path) -> None:
    path = tmp_path / "alice"
    path.write_text('user = "alice"\npassword = "sesame"\n')
    path.chmod(0o600)
    assert read_credentials(path) == ({"user": "alice", "password": "sesame"}, None)
    path.chmod(0o644)
    warning = read_credentials(path)[1]
    assert warning == f"{path}: other users can read these credentials (mode 0644): chmod 600 {path}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('password = "sesame', "is not TOML: write lines like user"),
        ("password = 1234", "password: not known, or not in quotes"),
        ('pasword = "sesame"', "pasword: not known, or not in quotes: known are user, password, totp-secret"),
    ],
)
def test_mistakes_do_not_show_what_is_secret(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "alice"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=why) as caught:
        read_credentials(path)
    assert "sesame" not in str(caught.value)
    assert "1234" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file or directory: check --credentials"):
        read_credentials(tmp_path / "none")


class AtOnce:
    """A worker that does jobs when they are given."""

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> bool:
        done(job())
        return True


def test_who_is_asked_again_soon_waits_for_the_next_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that is lost, and one that follows it in the same 30 s."""
    path = tmp_path / "alice"
    path.write_text('totp-secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"')
    path.chmod(0o600)
    clock = [1000.0]
    monkeypatch.setattr(applicant.time, "time", lambda: clock[0])
    monkeypatch.setattr(applicant.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    said: list[Message] = []
    none = cast("Any", None)
    asked = Applicant(path, none, bytes(32), cast("Any", AtOnce()), lambda peer, reply: said.append(reply), none)
    times = []
    for later in (0, 1, 25, 100):
        clock[0] += later
        asked.heard(none, Ask(bytes(32), (Field("code", True),)))
        times.append(clock[0])
    assert times == [1000.0, 1020.0, 1050.0, 1150.0]
    codes = [reply.values["code"] for reply in said if isinstance(reply, Reply)]
    assert codes == [totp(b"12345678901234567890", at) for at in times]
    assert len(set(codes)) == 4
