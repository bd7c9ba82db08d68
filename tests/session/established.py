"""The outcome of handshakes that never took place: keys that two sessions share, without the public-key work."""

from __future__ import annotations

import dataclasses
import hashlib

from caetun.session.handshake import Cipher, Established, PeerId
from caetun.types import Mode
from caetun.wire.hello import Hello

PEER = PeerId(bytes(32))
HELLO = Hello(Mode.TAP, max_record=1 << 16)


def established(number: int, indices: tuple[int, int] | None = None, hello: Hello = HELLO) -> tuple[Established, ...]:
    """The initiator's and the responder's side of handshake `number`.

    `indices`: the initiator's and the responder's; by default 1000 + number and 2000 + number.
    """
    ours, theirs = indices or (1000 + number, 2000 + number)
    one, other = (hashlib.sha256(f"{number} {side}".encode()).digest() for side in ("one", "other"))
    initiator = Established(
        peer=PEER,
        initiator=True,
        cipher=Cipher.AES_GCM,
        send_key=one,
        receive_key=other,
        local_index=ours,
        remote_index=theirs,
        hello=hello,
        post_quantum=False,
    )
    responder = dataclasses.replace(
        initiator, initiator=False, send_key=other, receive_key=one, local_index=theirs, remote_index=ours
    )
    return initiator, responder
