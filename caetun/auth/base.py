"""What an authentication module is. Others' modules come in by the entry point group `caetun.auth`.

A module says which fields it wants of a peer, and decides upon a `Claim` with the answers. All modules of a chain are
asked at once and decide in order, so that nobody learns which one did not agree.

    class Tuesday:
        name = "tuesday"
        fields = ()
        def check(self, claim: Claim) -> str | None:
            if claim.wall // 86400 % 7 != 5:  # 1970 began on a Thursday
                raise Denied("come on a Tuesday")
            return claim.user
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from caetun.wire.authentication import Field

# chosen by us
WRONG: Final = "wrong user, password or code"
"""What is said of every wrong answer, whoever it is and whichever module it was."""
USER: Final = Field("user", False)
PASSWORD: Final = Field("password", True)
CODE: Final = Field("code", False)
CERTIFICATE: Final = Field("certificate", False)
SIGNATURE: Final = Field("signature", False)


class Denied(Exception):
    """A module does not agree. What it says is told to the peer."""

    def __init__(self, why: str = WRONG, note: str = "") -> None:
        """`note`: more than the peer is told, for our own log; nothing secret."""
        super().__init__(why)
        self.why = why
        self.note = note


@dataclass(frozen=True, slots=True)
class Claim:
    """What is known of a peer that wants to come in."""

    key: bytes
    """By which the handshake knows it, 32 bytes: its public key, or what stands for the name in its certificate."""
    target: bytes
    """What it must know to write to us, 32 bytes."""
    known: bool
    """Whether the configuration names it."""
    address: str
    """Where it is: the address without a port."""
    certificate: bytes
    """What it has shown in a handshake of `--security tls`, DER; empty with Noise."""
    nonce: bytes
    """Of the question, 32 bytes."""
    wall: float
    """Seconds since 1970."""
    values: Mapping[str, str] = field(repr=False)
    """The answers by field; whatever was not answered is absent."""
    user: str = ""
    """Who it is, as the modules before have found."""


class Method(Protocol):
    """An authentication module. Called in threads, by several at a time."""

    @property
    def name(self) -> str:
        """As it is called in `--auth`."""

    @property
    def fields(self) -> Sequence[Field]:
        """What it wants to know."""

    def check(self, claim: Claim) -> str:
        """Agree: returns the user that the claim is of ("" if this module does not tell); raises Denied.

        May take long, and block. The same time for a user that there is not as for one that there is.
        """


def decide(chain: Sequence[Method], claim: Claim) -> str:
    """The user that all modules agree upon ("" if none tells); raises Denied."""
    import dataclasses

    for method in chain:
        user = method.check(claim)
        if user and claim.user and user != claim.user:
            raise Denied(note=f"{method.name} says {user}, those before it {claim.user}")
        if user:
            claim = dataclasses.replace(claim, user=user)
    return claim.user


def fields_of(chain: Sequence[Method]) -> tuple[Field, ...]:
    """What a chain wants to know, each once."""
    return tuple(dict.fromkeys(each for method in chain for each in method.fields))
