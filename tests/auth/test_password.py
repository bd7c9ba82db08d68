"""Users and passwords: the file, the hashes, and that nobody learns whether there is a user."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path
from unittest.mock import patch

import pytest

from caetun.auth import users as users_module
from caetun.auth.base import WRONG, Claim
from caetun.auth.password import Password, Users
from caetun.auth.users import User, hash_password, is_password, read_users, stand_in
from caetun.errors import ConfigurationError
from tests.auth.claims import claim, denied

CHEAP = 64
"""KiB: tests are not attacked."""


@pytest.fixture(scope="module")
def phc() -> str:
    return hash_password("correct horse", os.urandom, CHEAP)


@pytest.fixture
def path(tmp_path: Path, phc: str) -> Path:
    path = tmp_path / "users"
    path.write_text(f"# people\n\n{User('alice', phc).line()}\n{User('bob', phc, bytes(range(20))).line()}\n")
    path.chmod(0o600)
    return path


def given(user: str, password: str) -> Claim:
    return dataclasses.replace(claim(), values={"user": user, "password": password})


def test_right_and_wrong(path: Path) -> None:
    method = Password(Users(path))
    assert method.check(given("alice", "correct horse")) == "alice"
    for user, password in (("alice", "correct hors"), ("alice", ""), ("carol", "correct horse"), ("", "")):
        assert denied(method, given(user, password)).why == WRONG
    assert denied(method, claim()).why == WRONG


def test_unknown_users_cost_the_same(path: Path) -> None:
    """As many hashes, with the same parameters, whoever it is."""
    method, asked = Password(Users(path)), []

    def counted(password: str, phc: str) -> bool:
        asked.append(phc.rpartition("$")[0].rpartition("$")[0])
        return is_password(password, phc)

    with patch("caetun.auth.password.is_password", counted):
        for user in ("alice", "nobody", ""):
            denied(method, given(user, "wrong"))
    assert len(asked) == 3
    assert len(set(asked)) == 1


def test_the_hash_of_nobody_is_nobodys(path: Path) -> None:
    users = read_users(path)[0]
    assert not is_password("", stand_in(users))
    assert stand_in({}).startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_hashes_are_argon2id_with_a_salt(phc: str) -> None:
    assert phc.startswith(f"$argon2id$v=19$m={CHEAP},t=3,p=4$")
    assert hash_password("correct horse", os.urandom, CHEAP) != phc
    assert is_password("correct horse", phc)


def test_a_hash_that_another_program_has_made() -> None:
    """By the reference implementation: echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32 (RFC 9106)."""
    known = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
    assert is_password("password", known)
    assert not is_password("Password", known)


def test_many_at_a_time(phc: str) -> None:
    """OpenSSL fails hashes that find its threads taken."""
    wrong: list[bool] = []

    def work() -> None:
        wrong.extend(not is_password("correct horse", phc) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [False] * 20


def test_a_file_is_read_again(path: Path) -> None:
    users = Users(path)
    assert "alice" in users
    assert users.secret("bob") == bytes(range(20))
    assert users.secret("alice") is users.secret("carol") is None
    path.write_text("alice\n")
    with pytest.raises(ConfigurationError):
        users.reload()
    assert "alice" in users
    path.write_text("")
    users.reload()
    assert "alice" not in users
    assert denied(Password(users), given("alice", "correct horse")).why == WRONG


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (":x", ":1: does not begin with a user's name"),
        ("al ice:$argon2id$", ":1: does not begin with a user's name"),
        ("alice", ":1: alice has no Argon2id hash: set one with caetun passwd FILE alice"),
        ("alice:$2b$12$abcdef", ":1: alice has no Argon2id hash"),
        ("alice:PHC:JBSWY3DP", ":1: the secret of alice is too short"),
        ("alice:PHC:!", ":1: the secret of alice is not Base32"),
        ("alice:PHC:JBSWY3DPEHPK3PXP:x", ":1: alice has no Argon2id hash"),
        ("alice:PHC\nalice:PHC", ":2: alice is there twice"),
    ],
)
def test_lines_that_are_wrong(tmp_path: Path, phc: str, line: str, why: str) -> None:
    path = tmp_path / "users"
    path.write_text(line.replace("PHC", phc))
    with pytest.raises(ConfigurationError, match=why) as caught:
        read_users(path)
    assert phc not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path, path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file or directory: make one with caetun passwd FILE USER"):
        read_users(tmp_path / "none")
    with patch.object(users_module, "FILE_LIMIT", 10), pytest.raises(ConfigurationError, match="larger than 10 bytes"):
        read_users(path)
    path.chmod(0o640)
    assert read_users(path)[1] == f"{path}: other users can read it (mode 0640): chmod 600 {path}"
