"""Our Noise against the published vectors: every byte of every message, both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from caetun.session.noise import DhKey, HandshakeState, Keys

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "vectors" / "noise.json").read_text())


def side(vector: dict[str, Any], role: str) -> HandshakeState:
    """The initiator (`init`) or responder (`resp`) of a vector."""

    def known(field: str) -> bytes | None:
        return bytes.fromhex(vector[f"{role}_{field}"]) if f"{role}_{field}" in vector else None

    static = known("static")
    psks = vector.get(f"{role}_psks")
    keys = Keys(
        static=None if static is None else DhKey(static),
        remote_static=known("remote_static"),
        psk=None if psks is None else bytes.fromhex(psks[0]),
    )
    ephemeral = known("ephemeral")
    prologue = known("prologue")
    assert ephemeral is not None
    assert prologue is not None
    return HandshakeState(vector["protocol_name"], role == "init", prologue, keys, lambda size: ephemeral[:size])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["protocol_name"])
def test_vector(vector: dict[str, Any]) -> None:
    initiator, responder = side(vector, "init"), side(vector, "resp")
    messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in vector["messages"]]
    writer, reader = initiator, responder
    while not initiator.finished:
        payload, ciphertext = messages.pop(0)
        assert writer.write_message(payload) == ciphertext
        assert reader.read_message(ciphertext) == payload
        writer, reader = reader, writer
    assert initiator.symmetric.digest.hex() == responder.symmetric.digest.hex() == vector["handshake_hash"]

    ciphers = {initiator: initiator.split(), responder: responder.split()}
    assert len(messages) >= 3
    for payload, ciphertext in messages:
        assert ciphers[writer][0].encrypt(payload) == ciphertext
        assert ciphers[reader][1].decrypt(ciphertext) == payload
        writer, reader = reader, writer


def test_all_patterns_are_covered() -> None:
    names = {vector["protocol_name"].split("_")[1] for vector in VECTORS}
    assert names == {"NN", "NNpsk0", "NK", "IK", "IKpsk1", "IKpsk2", "XX", "XXpsk3"}
    assert len(VECTORS) == 32
