"""Messages of configuration handshake and enrolment: what survives, what is ignored, what is refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.daemon.services import OFF
from caetun.errors import Malformed
from caetun.types import DropReason
from caetun.wire import configuration, enrolment
from caetun.wire.configuration import Applied, Assigned, Off, Offer, Push, Refused
from caetun.wire.enrolment import Denied, Enrol, Welcome

OFFER = {"type": "offer", "policy": "server", "role": "client", "mode": "tap", "mtu": 1500}
PUSH = {"type": "push", "serial": 1, "settings": {"address": ["10.88.0.2/24"], "route": ["10.1.0.0/16"]}}
MESSAGES = [
    Offer(policy="symmetric", role="equal", mode="tun", mtu=1400, features=("offload",)),
    Push(serial=7, settings=Assigned(address=("fd88::2/64",), dns=("fd88::1",), mtu=1280, keepalive=5, gateway=True)),
    Applied(serial=7, ignored=("route 10.0.0.0/8",)),
    Refused(reason="no"),
    Off(),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_survives(message: configuration.Configuration) -> None:
    assert configuration.decode(configuration.encode(message)) == message


@pytest.mark.parametrize("message", [Enrol("A" * 43 + "="), Welcome("alice"), Denied("no")])
def test_an_enrolment_survives(message: enrolment.Enrolment) -> None:
    assert enrolment.decode(enrolment.encode(message)) == message


def test_what_is_said_where_nothing_is_negotiated() -> None:
    assert configuration.encode(Off()) == OFF


def test_members_of_a_later_version_are_ignored() -> None:
    body = json.dumps({**OFFER, "version": 9, "colour": "red", "features": ["x"], "nested": {"a": [1]}})
    assert configuration.decode(body.encode()) == Offer(
        policy="server", role="client", mode="tap", mtu=1500, version=9, features=("x",)
    )


def changed(message: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({**message, **changes}).encode()


def pushed(**settings: Any) -> bytes:
    return changed(PUSH, settings=settings)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"type": "what"}',
        b"[" * 100_000,
        changed(OFFER, mtu="1500"),
        changed(OFFER, mtu=67),
        changed(OFFER, policy="other"),
        changed(OFFER, mode="\n"),
        changed(OFFER, mode="x" * 65),
        changed(OFFER, features=["x"] * 65),
        changed(PUSH, serial=-1),
        changed(PUSH, settings=None),
        pushed(address=["10.88.0.2"]),
        pushed(address=["10.88.0.2/33"]),
        pushed(address=["127.0.0.1/8"]),
        pushed(address=["224.0.0.1/24"]),
        pushed(address=["fe80::1%eth0/64"]),
        pushed(address=["10.0.0.1/24"] * 9),
        pushed(route=["0.0.0.0/0"]),
        pushed(route=["::/0"]),
        pushed(route=["10.0.0.1/8"]),
        pushed(route=["127.0.0.0/8"]),
        pushed(route=["; rm -rf /"]),
        pushed(route=[f"10.{each}.0.0/16" for each in range(256)] + ["11.0.0.0/8"]),
        pushed(dns=["ns.example"]),
        pushed(keepalive=0),
        pushed(keepalive=1e300),
        pushed(mtu=0),
    ],
)
def test_what_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed) as malformed:
        configuration.decode(body)
    assert malformed.value.reason is DropReason.CHANNEL_MALFORMED


@pytest.mark.parametrize("body", [b"", b'{"type":"enrol"}', b'{"type":"enrol","key":"x"}', b'{"type":"offer"}'])
def test_what_is_no_enrolment(body: bytes) -> None:
    with pytest.raises(Malformed):
        enrolment.decode(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.binary(max_size=64)
    | st.tuples(
        st.sampled_from((OFFER, PUSH)), st.sampled_from(("settings", "mtu", "serial", "type", "features")), json_values
    ).map(lambda parts: changed(parts[0], **{parts[1]: parts[2]}))
    | st.dictionaries(st.sampled_from(("address", "route", "dns", "via", "mtu")), json_values).map(
        lambda each: pushed(**each)
    )
)
def test_decoders_are_total(body: bytes) -> None:
    for decode in (configuration.decode, enrolment.decode):
        with contextlib.suppress(Malformed):
            decode(body)


@pytest.mark.parametrize("text", ["a\nnameserver 192.0.2.6", "a b", "-a", "", "a..b", ".", "a" * 64, "ä.example"])
def test_a_domain_is_one_as_it_will_stand_in_a_file_with_others_words(text: str) -> None:
    with pytest.raises(Malformed):
        configuration.decode(json.dumps({"type": "push", "serial": 1, "settings": {"domain": [text]}}).encode())
    good = {"type": "push", "serial": 1, "settings": {"domain": ["_tcp.corp-1.example"]}}
    assert isinstance(configuration.decode(json.dumps(good).encode()), Push)
