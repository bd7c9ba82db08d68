"""Whatever a far end says on its control channel: it is taken, or dropped by name, and the tunnel lives or ends with
a reason. No message raises."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.daemon.assigner import Assigner
from caetun.daemon.negotiator import Equal, Negotiator, make_offer
from caetun.daemon.puller import Puller
from caetun.daemon.services import Hands, Services, Unnegotiated
from caetun.errors import CaeTunError, Disagreement, Malformed
from caetun.session.channel import MET, Kind
from caetun.sources import load
from caetun.types import DropReason, Drops, Mode
from caetun.wire import authentication, enrolment, mesh

NAMED: Final = frozenset((DropReason.CHANNEL_MALFORMED, DropReason.CHANNEL_UNKNOWN))

words: Final = st.sampled_from(
    ("offer", "push", "applied", "refused", "off", "server", "client", "equal", "symmetric", "tun", "tap", "zstd")
)
texts: Final = (
    words | st.text(max_size=300) | st.sampled_from(("10.0.0.1/24", "fd00::1/64", "0.0.0.0/1", "::/0", "1/2"))
)
scalars: Final = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values: Final = scalars | st.lists(scalars, max_size=5) | st.dictionaries(texts, scalars, max_size=3)
members: Final = st.sampled_from(
    ("version", "policy", "role", "mode", "mtu", "compression", "features", "serial", "ignored", "reason", "more")
)
assigned: Final = st.dictionaries(
    st.sampled_from(
        ("address", "via", "route", "dns", "domain", "gateway", "mtu", "keepalive", "compression", "cipher", "more")
    ),
    values | st.lists(texts, max_size=4) | st.integers(60, 66_000),
)
kinds: Final = st.sampled_from(("offer", "push", "applied", "refused", "off", "x"))
objects: Final = st.builds(
    lambda kind, some, settings: {"type": kind, "serial": 1, "reason": "why", **some, "settings": settings},
    kinds,
    st.dictionaries(members, values, max_size=5),
    assigned,
)
sound: Final = st.fixed_dictionaries(
    {"type": st.just("push"), "serial": st.integers(0, 9)},
    optional={
        "settings": st.fixed_dictionaries(
            {},
            optional={
                "address": st.lists(st.sampled_from(("10.8.0.2/24", "fd88::2/64")), max_size=8),
                "mtu": st.integers(68, 65535),
                "keepalive": st.integers(1, 3600),
                "compression": st.sampled_from(("none", "zstd", "lz4,zstd", "", ",", "nobodys", "zstd,zstd")),
                "cipher": st.lists(st.sampled_from(("aes-gcm", "rot13")), max_size=5),
                "route": st.lists(st.sampled_from(("0.0.0.0/1", "10.1.0.0/16", "::/1")), max_size=3),
            },
        )
    },
)
bodies: Final = st.binary(max_size=200) | (objects | sound | values).map(lambda each: json.dumps(each).encode())


class Far(SimpleNamespace):
    """A peer, by which tables are kept."""

    __hash__ = object.__hash__


@dataclass
class Cardboard:
    """A host, a pump and one peer: what is done to them is written down."""

    drops: Drops = field(default_factory=Drops)
    stopped: list[CaeTunError] = field(default_factory=list)
    said: list[bytes] = field(default_factory=list)
    later: int = 0

    def __post_init__(self) -> None:
        channel = SimpleNamespace(open=True, idle=True)
        conversation = SimpleNamespace(channel=channel, hold=lambda _: None, release=lambda _: None, holds=frozenset())
        self.peer: Any = Far(
            name="peer",
            ident=b"p" * 32,
            link=SimpleNamespace(source="192.0.2.1 4500"),
            conversation=conversation,
            present=True,
            retime=lambda _: None,
            prefer=lambda _: None,
            compress=lambda methods, now: [method.name for method in methods],
        )
        timer = SimpleNamespace(cancel=lambda: None)

        def call_later(seconds: float, work: Callable[[], None]) -> Any:
            self.later += 1
            return timer

        loop = SimpleNamespace(call_later=call_later)
        pump = SimpleNamespace(say=lambda peer, kind, body: self.said.append(body) or True, wake=lambda: None)
        self.hands = Hands(cast(asyncio.AbstractEventLoop, loop), lambda: cast(Any, pump), self.stopped.append)
        self.hands.stop = lambda error, peer=None: self.stopped.append(error)  # type: ignore[method-assign]
        self.services = Services(self.drops)

    def settings(self, *, negotiation: str, calls: bool) -> Any:
        where = {"connect": ["192.0.2.1:4500"]} if calls else {"listen": [":4500"]}
        # Routes are for a kernel: they are filtered, like those that would swallow the tunnel.
        pull = {"pull_filter": ["ignore route"]} if negotiation == "server" and calls else {}
        return load({**where, **pull, "secret_file": "s.key", "negotiation": negotiation})

    def negotiates(self, role: str) -> None:
        settings = self.settings(negotiation="symmetric" if role == "equal" else "server", calls=role != "server")
        interface = SimpleNamespace(resize=lambda _: None, assign=lambda _: None)
        node = SimpleNamespace(peers={self.peer.ident: self.peer}, ciphers=())
        part: Any = Equal(self.hands)
        if role == "client":
            part = Puller(self.hands, settings, lambda: cast(Any, interface), Mode.TUN, ("tun0", False), lambda _: None)
        elif role == "server":
            part = Assigner(self.hands, cast(Any, node), settings, 1500, None)
        negotiator = Negotiator(self.hands, make_offer(settings, "tun", 1500), part, [self.peer])
        self.services.add(Kind.CONFIGURATION, negotiator)

    def hear(self, *messages: bytes) -> None:
        self.services.said(self.peer, MET, b"")
        for body in messages:
            self.services.said(self.peer, Kind.CONFIGURATION, body)


@pytest.mark.parametrize("role", ["server", "client", "equal", "off"])
@given(messages=st.lists(bodies, max_size=4))
def test_configuration(role: str, messages: list[bytes]) -> None:
    made = Cardboard()
    if role == "off":
        made.services.add(Kind.CONFIGURATION, Unnegotiated(made.hands))
    else:
        made.negotiates(role)
    made.hear(*messages)
    assert made.drops.keys() <= NAMED
    assert all(isinstance(error, Disagreement) and str(error).startswith("--negotiation: ") for error in made.stopped)
    assert not made.stopped or role == "equal", "a server lives, and a client waits"
    assert len(made.said) <= 2 * len(messages) + 1, "no message brings more than two"


@given(kind=st.integers(4, 255), body=st.binary(max_size=100))
def test_a_kind_that_nobody_knows(kind: int, body: bytes) -> None:
    made = Cardboard()
    made.services.said(made.peer, kind, body)
    assert made.drops == {DropReason.CHANNEL_UNKNOWN: 1}


@pytest.mark.parametrize(
    ("decode", "reason"),
    [
        (enrolment.decode, DropReason.CHANNEL_MALFORMED),
        (mesh.decode, DropReason.MESH_MALFORMED),
        (authentication.decode, DropReason.AUTH_MALFORMED),
    ],
)
@given(body=bodies)
def test_what_the_others_are_told_is_read_or_named(
    decode: Callable[[bytes], object], reason: DropReason, body: bytes
) -> None:
    drops = Drops()
    try:
        decode(body)
    except Malformed as bad:
        drops.count(bad.reason)
    assert drops.keys() <= {reason}
