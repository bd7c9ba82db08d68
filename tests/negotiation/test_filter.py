"""The pull filter, the words of what is assigned, and comparisons side by side."""

from __future__ import annotations

import pytest

from caetun.agreement import Action
from caetun.daemon.assigner import changed
from caetun.negotiation.differences import differences, table
from caetun.negotiation.filter import judge, reduced, rejected
from caetun.wire.configuration import Assigned, Offer

WHOLE = Assigned(
    address=("10.88.0.2/24", "fd88::2/64"),
    route=("10.1.0.0/16", "10.2.0.0/16"),
    dns=("10.88.0.1",),
    domain=("corp.example",),
    gateway=True,
    mtu=1400,
    keepalive=25.0,
    cipher=("aes-gcm", "chacha20-poly1305"),
)


def test_lines_are_what_a_person_would_write() -> None:
    assert WHOLE.lines() == [
        "address 10.88.0.2/24",
        "address fd88::2/64",
        "route 10.1.0.0/16",
        "route 10.2.0.0/16",
        "dns 10.88.0.1",
        "domain corp.example",
        "gateway",
        "mtu 1400",
        "keepalive 25",
        "cipher aes-gcm chacha20-poly1305",
    ]


def test_the_first_filter_that_fits_decides_and_without_one_it_is_accepted() -> None:
    filters = [Action("accept", "route 10.1."), Action("ignore", "route"), Action("reject", "dns")]
    verdicts = {line: judge(line, filters) for line in WHOLE.lines()}
    assert verdicts["route 10.1.0.0/16"] == "accept"
    assert verdicts["route 10.2.0.0/16"] == "ignore"
    assert verdicts["dns 10.88.0.1"] == "reject"
    assert verdicts["gateway"] == "accept"
    assert rejected(WHOLE, filters) == ["dns 10.88.0.1"]


@pytest.mark.parametrize("line", WHOLE.lines())
def test_each_line_can_be_left_out_alone(line: str) -> None:
    assert reduced(WHOLE, [line]).lines() == [other for other in WHOLE.lines() if other != line]


def test_changes_in_words() -> None:
    now = Assigned(address=("10.88.0.9/24",), route=("10.2.0.0/16", "10.3.0.0/16"), mtu=1300)
    before = Assigned(address=("10.88.0.2/24",), route=("10.1.0.0/16", "10.2.0.0/16"), mtu=1400)
    assert changed(before, now) == (
        "address 10.88.0.2/24 -> 10.88.0.9/24, + route 10.3.0.0/16, mtu 1400 -> 1300, - route 10.1.0.0/16"
    )
    assert changed(now, now) == "nothing"


EQUAL = Offer(policy="symmetric", role="equal", mode="tap", mtu=1500, features=("offload", "post-quantum"))
SERVER = Offer(policy="server", role="server", mode="tap", mtu=1500)
CLIENT = Offer(policy="server", role="client", mode="tap", mtu=1400)


def test_equals_are_compared_in_everything() -> None:
    assert differences(EQUAL, EQUAL) == []
    other = Offer(policy="symmetric", role="equal", mode="tap", mtu=1400, compression="lz4", version=2)
    assert table(differences(EQUAL, other)) == [
        "setting      here                  there",
        "version      1                     2",
        "mtu          1500                  1400",
        "compression  none                  lz4",
        "features     offload post-quantum  none",
    ]


def test_server_and_client_need_only_their_roles() -> None:
    assert differences(SERVER, CLIENT) == differences(CLIENT, SERVER) == []
    assert [each.setting for each in differences(SERVER, SERVER)] == ["role"]
    assert [each.setting for each in differences(CLIENT, CLIENT)] == ["role"]
    assert [each.setting for each in differences(EQUAL, SERVER)] == ["negotiation"]
