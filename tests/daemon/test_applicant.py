"""The side that is asked: credentials on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from caetun.daemon.applicant import read_credentials
from caetun.errors import ConfigurationError


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
