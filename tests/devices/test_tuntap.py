"""Opening TUN and TAP devices of the real kernel, in the Lab; what one cannot bring about there is injected."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from contextlib import closing
from types import SimpleNamespace
from typing import Any, Final

import pytest

from caetun.devices import tuntap
from caetun.devices.tuntap import TunTap, existing_mode, inherited_device, open_device
from caetun.errors import DeviceError
from caetun.lab import Lab
from caetun.types import Drops, Mode
from caetun.wire.container import OFFLOAD_CHECKSUM, OFFLOAD_TSO4, OFFLOAD_TSO6, OFFLOAD_USO
from tests.devices.machine import IFF, IFF_NO_PI, IFF_VNET_HDR, TUNSETIFF, Machine, frames_of

in_lab = pytest.mark.needs("namespaces", "tun", "ip")
both_modes = pytest.mark.parametrize("mode", list(Mode))

# fixed by the kernel's interface: linux/if_tun.h
TUNSETOFFLOAD: Final = 0x400454D0
TUNGETDEVNETNS: Final = 0x54E3


# -- opening --


@in_lab
@both_modes
def test_a_device_is_made_and_goes_when_it_is_closed(machine: Machine, mode: Mode) -> None:
    device = machine.open("some0", mode)
    assert (device.name, device.mode, device.created, device.headers) == ("some0", mode, True, True)
    assert device.offloads & (OFFLOAD_CHECKSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6) == 7
    assert machine.inside(lambda: existing_mode("some0")) is mode
    assert (machine.devices(), not os.get_inheritable(device.fileno())) == ({"some0"}, True)
    device.close()
    device.close()
    assert machine.devices() == set()
    assert machine.inside(lambda: existing_mode("some0")) is None


@in_lab
def test_the_kernel_numbers_devices_without_a_name(machine: Machine) -> None:
    with closing(machine.open(None)) as one, closing(machine.open(None, Mode.TUN)) as other:
        assert (one.name, other.name) == ("caetun0", "caetun1")


@in_lab
@both_modes
def test_a_persistent_device_is_attached_to_and_stays(machine: Machine, mode: Mode) -> None:
    machine.host.run(["ip", "tuntap", "add", "dev", "keep0", "mode", str(mode)])
    for _ in range(2):
        device = machine.open("keep0", mode)
        assert (device.name, device.created) == ("keep0", False)
        device.close()
        assert machine.devices() == {"keep0"}


@pytest.mark.needs("namespaces", "tun", "ip", "offload")
def test_a_persistent_device_does_not_keep_our_offloads(machine: Machine) -> None:
    machine.host.run(["ip", "tuntap", "add", "dev", "keep0", "mode", "tap"])
    device = machine.open("keep0")
    assert len(machine.features("keep0")) == 3
    device.close()
    assert machine.features("keep0") == set(), "whoever comes next may not know superframes"


@pytest.mark.needs("namespaces", "tun", "ip", "offload")
@pytest.mark.parametrize("inherited", [False, True])
def test_what_another_program_left_switched_on_is_switched_off(machine: Machine, inherited: bool) -> None:
    machine.host.run(["ip", "tuntap", "add", "dev", "keep0", "mode", "tap"])
    fd = machine.raw("keep0", IFF[Mode.TAP] | IFF_NO_PI | IFF_VNET_HDR)
    fcntl.ioctl(fd, TUNSETOFFLOAD, 0x0F)
    os.close(fd)
    assert len(machine.features("keep0")) == 3
    if inherited:
        device = inherited_device(machine.raw("keep0", IFF[Mode.TAP] | IFF_NO_PI), machine.drops)
    else:
        device = machine.open("keep0", offload=False)
    assert machine.features("keep0") == set(), "without headers a superframe could not be told from a packet"
    device.close()


@in_lab
@both_modes
def test_a_device_of_the_other_kind_is_not_taken(machine: Machine, mode: Mode) -> None:
    other = Mode.TAP if mode is Mode.TUN else Mode.TUN
    machine.host.run(["ip", "tuntap", "add", "dev", "keep0", "mode", str(mode)])
    assert machine.refusal(lambda: open_device("keep0", other, Drops())) == (
        f"keep0: exists as a {mode} device: use --mode {mode}, or another --dev"
    )


@in_lab
@pytest.mark.parametrize("name", ["lo", "eth0"])
def test_a_name_that_is_taken(lab: Lab, machine: Machine, name: str) -> None:
    lab.link(machine.host, lab.host("other"))
    assert "the name is taken by an interface that is not TUN/TAP" in machine.refusal(
        lambda: open_device(name, Mode.TAP, Drops())
    )


@in_lab
def test_a_device_that_somebody_uses(machine: Machine) -> None:
    with closing(machine.open("busy0")):
        assert machine.refusal(lambda: open_device("busy0", Mode.TAP, Drops())) == (
            "busy0: in use by another process: stop that one, or choose another with --dev"
        )


@in_lab
@pytest.mark.parametrize("name", ["sixteen-letters-", "a/b", "a\0b", "ä" * 8])
def test_a_name_that_is_none(machine: Machine, name: str) -> None:
    assert "not an interface name: use 1 to 15 characters" in machine.refusal(
        lambda: open_device(name, Mode.TAP, Drops())
    )


@in_lab
def test_a_name_that_only_the_kernel_refuses_leaves_no_descriptor(machine: Machine) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert machine.refusal(lambda: open_device("a b", Mode.TAP, Drops())) == (
        "a b: kernel refuses the device: Invalid argument"
    )
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_missing_clone_device_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuntap, "_CLONE", "/nonexistent/net/tun")
    with pytest.raises(DeviceError, match=r"^/nonexistent/net/tun: missing: load the module \(modprobe tun\); "):
        open_device("any0", Mode.TAP, Drops())


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "/dev/net/tun: no permission to open it: run as root, or mend its mode (0666)"),
        (errno.ENODEV, "/dev/net/tun: No such device: is the tun module loaded (modprobe tun)?"),
    ],
)
def test_a_clone_device_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, number: int, message: str) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tuntap, "os", SimpleNamespace(open=refuse, O_RDWR=0, O_NONBLOCK=0, O_CLOEXEC=0))
    with pytest.raises(DeviceError, match=re.escape(message)):
        open_device("any0", Mode.TAP, Drops())


@in_lab
@pytest.mark.parametrize(
    ("name", "present", "message"),
    [
        (
            "keep0",
            False,
            "keep0: no permission to create it: run as root, give CAP_NET_ADMIN, or make it beforehand: "
            "ip tuntap add dev keep0 mode tap user NAME",
        ),
        (None, False, "beforehand: ip tuntap add dev caetun0 mode tap user NAME, and --dev caetun0 here"),
        ("keep0", True, "belongs to another user"),
    ],
)
def test_a_device_we_may_not_have(
    machine: Machine, monkeypatch: Any, name: str | None, present: bool, message: str
) -> None:
    if present:
        machine.host.run(["ip", "tuntap", "add", "dev", "keep0", "mode", "tap"])
    real = fcntl.ioctl

    def ioctl(fd: Any, request: int, *rest: Any) -> Any:
        if request == TUNSETIFF:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return real(fd, request, *rest)

    monkeypatch.setattr(tuntap, "fcntl", SimpleNamespace(ioctl=ioctl))
    assert message in machine.refusal(lambda: open_device(name, Mode.TAP, Drops()))


# -- a descriptor we were given --


@in_lab
@both_modes
def test_a_descriptor_we_were_given(machine: Machine, mode: Mode) -> None:
    device = inherited_device(machine.raw("given0", IFF[mode] | IFF_NO_PI | IFF_VNET_HDR), machine.drops)
    assert (device.name, device.mode, device.headers, device.created) == ("given0", mode, True, False)
    assert (device.offloads > 0, device.notes) == (True, [])
    assert frames_of(device) == [], "it does not block"
    device.close()


@in_lab
@both_modes
def test_a_descriptor_without_headers_will_do(machine: Machine, mode: Mode) -> None:
    device = inherited_device(machine.raw("given0", IFF[mode] | IFF_NO_PI), machine.drops)
    assert (device.mode, device.headers, device.offloads) == (mode, False, 0)
    assert device.notes == ["descriptor was opened without IFF_VNET_HDR: every packet crosses alone, which is slow"]
    device.close()


@in_lab
@both_modes
def test_a_descriptor_with_packet_information_will_not(machine: Machine, mode: Mode) -> None:
    fd = machine.raw("given0", IFF[mode])
    assert "opened without IFF_NO_PI" in machine.refusal(lambda: inherited_device(fd, Drops()))
    os.close(fd)


@in_lab
def test_a_descriptor_waits_for_others_again_when_we_have_closed_it(machine: Machine) -> None:
    fd = machine.raw("given0", IFF[Mode.TUN] | IFF_NO_PI)
    others = os.dup(fd)
    device = inherited_device(fd, machine.drops)
    assert not os.get_blocking(others), "they are one"
    device.close()
    assert os.get_blocking(others)
    os.close(others)


@pytest.mark.needs("namespaces", "tun", "ip", "offload")
def test_a_descriptor_we_were_given_is_used_without_offloads_if_so_asked(machine: Machine) -> None:
    fd = machine.raw("given0", IFF[Mode.TAP] | IFF_NO_PI | IFF_VNET_HDR)
    with closing(inherited_device(fd, machine.drops, offload=False)) as device:
        assert (device.headers, device.offloads, device.notes) == (True, 0, [])
        assert machine.features("given0") == set()
    bare = machine.raw("given1", IFF[Mode.TAP] | IFF_NO_PI)
    with closing(inherited_device(bare, machine.drops, offload=False)) as device:
        assert (device.headers, device.notes) == (False, []), "nothing is missing"


@in_lab
def test_a_descriptor_tells_whether_its_interface_is_of_this_namespace(
    lab: Lab, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = machine.raw("given0", IFF[Mode.TUN] | IFF_NO_PI)
    assert machine.inside(lambda: inherited_device(fd, Drops())).here is True
    assert lab.host("other").inside(lambda: inherited_device(fd, Drops())).here is False
    real = fcntl.ioctl

    def ioctl(fd: Any, request: int, *rest: Any) -> Any:
        if request == TUNGETDEVNETNS:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return real(fd, request, *rest)

    monkeypatch.setattr(tuntap, "fcntl", SimpleNamespace(ioctl=ioctl))
    assert machine.inside(lambda: inherited_device(fd, Drops())).here is None
    os.close(fd)


@in_lab
def test_an_interface_of_the_same_name_elsewhere_says_nothing_about_a_descriptor(lab: Lab) -> None:
    machine, other = Machine(lab), Machine(lab, 2)
    ours = other.raw("same0", IFF[Mode.TUN])  # with packet information
    fd = machine.raw("same0", IFF[Mode.TUN] | IFF_NO_PI)
    device = other.inside(lambda: inherited_device(fd, Drops()))
    assert (device.name, device.here) == ("same0", False)
    device.close()
    os.close(ours)


@pytest.mark.parametrize("path", ["/dev/null", "/dev/net/tun"])
def test_a_descriptor_that_is_no_device(path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"no {path} on this machine")
    with (
        open(path, "rb", buffering=0) as opened,
        pytest.raises(DeviceError, match="not an attached TUN"),
    ):
        inherited_device(opened.fileno(), Drops())
    with pytest.raises(DeviceError, match="fd:999: not an attached TUN/TAP descriptor"):
        inherited_device(999, Drops())


# -- offloads --


@pytest.mark.parametrize(
    ("knows", "offloads", "notes"),
    [
        (0x7F, OFFLOAD_CHECKSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_USO, []),
        (0x0F, OFFLOAD_CHECKSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6, ["0x6f"]),
        (0x01, OFFLOAD_CHECKSUM, ["0x6f", "0xf"]),
        (0x00, 0, ["0x6f", "0xf", "0x1"]),
        (None, 0, ["0x6f", "0xf", "0x1", "0x0"]),
    ],
)
def test_an_older_kernel_is_asked_for_less(
    monkeypatch: pytest.MonkeyPatch, knows: int | None, offloads: int, notes: list[str]
) -> None:
    asked: list[int] = []

    def ioctl(fd: int, request: int, value: Any) -> int:
        if request == TUNSETOFFLOAD:
            asked.append(value)
            if knows is None or value & ~knows:
                raise OSError(errno.EINVAL, "Invalid argument")
        return 0

    monkeypatch.setattr(tuntap, "fcntl", SimpleNamespace(ioctl=ioctl))
    device = TunTap(-1, "old0", Mode.TAP, Drops())
    device.ask_offloads()
    assert device.offloads == offloads
    assert asked[: len(notes)] == [int(note, 16) for note in notes]
    assert [re.findall("0x[0-9a-f]+", note) for note in device.notes] == [[note] for note in notes]


@in_lab
def test_the_kernel_grants_what_it_is_asked_for(machine: Machine) -> None:
    with closing(machine.open()) as device:
        assert device.offloads & OFFLOAD_USO or device.notes, "USO came with Linux 6.2"
        fcntl.ioctl(device.fileno(), TUNSETOFFLOAD, 0x0F)
