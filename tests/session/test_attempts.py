"""Which initiation is sent when, and with which cipher."""

from __future__ import annotations

from caetun.session.attempts import Attempts
from caetun.session.handshake import Cipher
from caetun.session.retry import FIRST_DELAY, JITTER, MAX_DELAY

AES, CHACHA = Cipher.AES_GCM, Cipher.CHACHA20_POLY1305


def attempts(*ciphers: Cipher) -> Attempts:
    return Attempts(ciphers, bytes)


def test_every_cipher_has_its_turn_and_the_best_one_two_before() -> None:
    those = attempts(AES, CHACHA)
    assert [those.cipher(asked) for asked in range(6)] == [AES, AES, CHACHA, AES, CHACHA, AES]


def test_a_single_cipher_is_the_only_one() -> None:
    assert {attempts(CHACHA).cipher(asked) for asked in range(9)} == {CHACHA}


def test_delays_grow_until_there_is_a_new_beginning() -> None:
    those = attempts(AES)
    assert those.at is None
    those.begin(5.0)
    assert those.at == 5.0
    delays: list[float] = []
    for _ in range(12):
        those.take(0.0)
        delays.append(those.at or 0.0)
    assert delays == sorted(delays)
    assert FIRST_DELAY * (1 - JITTER) <= delays[0] <= FIRST_DELAY
    assert MAX_DELAY * (1 - JITTER) <= delays[-1] <= MAX_DELAY
    assert those.made == 12
    those.begin(200.0, at_once=False)
    assert those.made == 0
    assert those.at == 200.0 + delays[0]


def test_a_pause_and_an_end() -> None:
    those = attempts(AES)
    those.begin(0.0)
    those.pause(30.0)
    assert those.at == those.paused_until == 30.0
    those.end()
    assert those.at is None
