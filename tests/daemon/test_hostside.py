"""What a tunnel has on its host: which device it takes, whose MTU counts, and that everything is given back."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from caetun.daemon import hostnet, hostside
from caetun.daemon.hostside import HostSide
from caetun.errors import CaeTunError, ConfigurationError, DeviceError
from caetun.sources import load
from caetun.types import Drops, Mode

LEAST = {"listen": ":4500", "secret_file": "s.key"}


@dataclass
class Device:
    """What is needed of a `TunTap`."""

    name: str = "tun7"
    mode: Mode = Mode.TUN
    created: bool = False
    here: bool | None = True
    notes: list[str] = field(default_factory=list)
    closed: int = 0

    def close(self) -> None:
        self.closed += 1


@dataclass
class Part:
    """Something that was changed on the host."""

    name: str
    told: list[str]
    refuses: bool = False

    def undo(self) -> None:
        self.told.append(self.name)
        if self.refuses:
            raise DeviceError(f"{self.name} is stuck")

    def close(self, failed: bool = False) -> None:
        self.told.append(f"{self.name}{' failed' if failed else ''}")


def side(device: Device | None = None, **flags: object) -> HostSide:
    made = HostSide(load({**LEAST, **flags}), Drops())
    made._device = device  # type: ignore[assignment]
    return made


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[[Device], Device]:
    """Every device that is opened or inherited is the one given."""

    def give(device: Device) -> Device:
        monkeypatch.setattr(hostside, "inherited_device", lambda *_: device)
        monkeypatch.setattr(hostside, "open_device", lambda *_: device)
        return device

    return give


def refusal(function: Callable[[], Any], kind: type[CaeTunError]) -> str:
    with pytest.raises(kind) as caught:
        function()
    return str(caught.value)


# open


def test_an_inherited_device_of_another_kind_is_closed_and_refused(given: Callable[[Device], Device]) -> None:
    device = given(Device(mode=Mode.TAP))
    made = side(dev="fd:3", mode="tun")
    assert refusal(made.open, ConfigurationError) == "fd:3: is a tap device: use --mode tap"
    assert device.closed == 1


@pytest.mark.parametrize(("here", "words"), [(False, "tun7 is of another"), (None, "tun7 may be of another")])
@pytest.mark.parametrize("flags", [{"address": ["10.0.0.1/24"]}, {"mtu": "1400"}])
def test_what_cannot_be_set_on_a_device_of_another_namespace(
    given: Callable[[Device], Device], here: bool | None, words: str, flags: dict[str, object]
) -> None:
    device = given(Device(here=here))
    assert words in refusal(side(dev="fd:3", **flags).open, ConfigurationError)
    assert device.closed == 1


def test_an_inherited_device_that_nothing_is_asked_of(given: Callable[[Device], Device]) -> None:
    device = given(Device(here=False))
    made = side(dev="fd:3")
    assert made.open() is device  # type: ignore[comparison-overlap]
    assert made.device is device  # type: ignore[comparison-overlap]
    assert device.closed == 0


def test_what_the_kernel_does_not_offer_is_told(
    given: Callable[[Device], Device], caplog: pytest.LogCaptureFixture
) -> None:
    given(Device(notes=["slow"]))
    with caplog.at_level(logging.WARNING, "caetun"):
        side(dev="fd:3").open()
    assert [record.getMessage() for record in caplog.records] == ["tun7: slow"]


# whose MTU counts


@pytest.mark.parametrize(
    ("device", "flags", "mtu"),
    [
        (Device(created=True), {}, 1500),
        (Device(created=True), {"mtu": "1300"}, 1300),
        (Device(), {}, 9000),
        (Device(), {"mtu": "1300"}, 1300),
        (Device(here=False), {}, 1500),
    ],
    ids=["ours", "ours, asked for", "of before", "of before, asked for", "elsewhere"],
)
def test_an_interface_of_before_keeps_its_mtu_unless_another_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, device: Device, flags: dict[str, object], mtu: int
) -> None:
    monkeypatch.setattr(hostnet, "mtu_of", lambda name: {"tun7": 9000}[name])
    assert side(device, **flags).mtu() == mtu


def test_one_that_vanishes_meanwhile_has_the_mtu_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> int:
        raise DeviceError("gone")

    monkeypatch.setattr(hostnet, "mtu_of", gone)
    assert side(Device()).mtu() == 1500


@pytest.mark.parametrize(("mode", "mtu"), [(Mode.TUN, 9000), (Mode.TAP, 1500), (None, 1500)])
def test_where_the_kernel_does_not_say_the_name_decides(
    monkeypatch: pytest.MonkeyPatch, mode: Mode | None, mtu: int
) -> None:
    monkeypatch.setattr(hostnet, "mtu_of", lambda name: 9000)
    monkeypatch.setattr(hostside, "existing_mode", lambda name: mode)
    assert side(Device(here=None)).mtu() == mtu


@pytest.mark.parametrize(("here", "managed"), [(False, True), (True, False)])
def test_what_a_server_assigns_is_not_set_on_somebody_elses(here: bool, managed: bool) -> None:
    made = side(Device(here=here))
    made.settings = dataclasses.replace(made.settings, manage_device=managed)
    assert "somebody else's" in refusal(made.interface, DeviceError)


# the end


def parts(made: HostSide, told: list[str], refuses: bool) -> None:
    for name in ("bridge", "steward", "routes", "interface"):
        setattr(made, f"_{name}", Part(name, told, refuses))


def test_everything_is_given_back_the_device_last() -> None:
    device, told = Device(), list[str]()
    made = side(device)
    parts(made, told, refuses=False)
    made.close(failed=True)
    assert told == ["bridge", "steward failed", "routes", "interface"]
    assert device.closed == 1


def test_what_cannot_be_given_back_is_told_and_the_rest_is(caplog: pytest.LogCaptureFixture) -> None:
    device, told = Device(), list[str]()
    made = side(device)
    parts(made, told, refuses=True)
    with caplog.at_level(logging.WARNING, "caetun"):
        made.close(failed=False)
    assert told == ["bridge", "steward", "routes", "interface"]
    assert [record.getMessage() for record in caplog.records] == ["routes is stuck", "interface is stuck"]
    assert device.closed == 1


def test_a_start_that_went_nowhere_has_nothing_to_give_back() -> None:
    made = side()
    made.close(failed=True)
    assert made.mark == 0
    made.network_changed()
