"""The laboratory: its cables do what they say, and nothing of it is left behind."""

from __future__ import annotations

import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyroute2
import pytest

import caetun
from caetun.errors import HostError
from caetun.lab import Cable, Host, Lab, Port, needs
from caetun.lab.relay import Impairment, Line
from caetun.lab.traffic import burst, ping, stream

GONE_WITHIN = 10.0  # seconds a machine under load may take to bury the dead
NOBODY = 65534  # user and group without rights
FRAME = bytes(10 + 1000)  # virtio_net_hdr and 1,000 bytes


def two_hosts(lab: Lab, cable: Cable = Cable()) -> tuple[Port, Port]:  # noqa: B008 - frozen
    """Connect two hosts, 10.0.0.1 and 10.0.0.2."""
    left, right = ["10.0.0.1/24", "fd00::1/64"], ["10.0.0.2/24", "fd00::2/64"]
    return lab.link(lab.host("one"), lab.host("other"), left=left, right=right, cable=cable)


def line(impairment: Impairment) -> Line:
    """One direction of a cable whose chance is always the same."""
    return Line(impairment, random.Random(1))


# -- a line in virtual time --


def test_a_frame_is_due_after_the_delay() -> None:
    wire = line(Impairment(delay=0.5))
    assert wire.next_deadline() is None
    assert wire.put(FRAME, 10.0)
    assert wire.next_deadline() == 10.5
    assert wire.take(10.4) == []
    assert wire.take(10.5) == [FRAME]
    assert wire.next_deadline() is None


def test_frames_of_one_moment_stay_in_order() -> None:
    wire, frames = line(Impairment(delay=0.1)), [bytes([number]) * 60 for number in range(50)]
    for frame in frames:
        wire.put(frame, 1.0)
    assert wire.take(2.0) == frames


def test_jitter_lets_frames_overtake_within_its_bounds() -> None:
    wire, frames = line(Impairment(delay=0.1, jitter=0.05)), [bytes([number]) * 60 for number in range(50)]
    for frame in frames:
        wire.put(frame, 1.0)
    assert wire.take(1.049) == []
    out = wire.take(1.151)
    assert out != frames
    assert sorted(out) == frames


def test_about_the_share_asked_for_is_lost() -> None:
    wire = line(Impairment(loss=0.2))
    assert 700 < sum(wire.put(FRAME, 1.0) for _ in range(1000)) < 900


def test_the_bottleneck_spaces_frames() -> None:
    wire = line(Impairment(rate=8_000_000))  # a frame of 1,000 bytes takes 1 ms
    for _ in range(3):
        wire.put(FRAME, 1.0)
    assert [len(wire.take(now)) for now in (1.0009, 1.0011, 1.0021, 1.0031)] == [0, 1, 1, 1]


def test_the_bottleneck_drops_what_its_queue_cannot_hold() -> None:
    wire = line(Impairment(rate=8_000_000, queue=0.0105))
    taken = [wire.put(FRAME, 1.0) for _ in range(20)]
    assert taken == [True] * 11 + [False] * 9
    assert wire.put(FRAME, 1.005), "five milliseconds later there is room again"


# -- cables --


def test_two_hosts_reach_each_other_over_ipv4_and_ipv6(lab: Lab) -> None:
    one, other = two_hosts(lab)
    assert len(ping(one.host, other.address, count=3)) == 3
    assert burst(one.host, other.host, "fd00::2", count=10, size=100) == 10


def test_a_cable_pulled_out_carries_nothing_until_it_is_back(lab: Lab) -> None:
    one, other = two_hosts(lab)
    one.down()
    assert ping(one.host, other.address, timeout=0.05) == []
    one.up()
    assert len(ping(one.host, other.address, count=3)) == 3


@pytest.mark.needs("namespaces", "loss")
def test_a_cable_loses_about_the_share_asked_for(lab: Lab) -> None:
    one, other = two_hosts(lab, Cable(loss=0.2))
    assert 0.75 < burst(one.host, other.host, "fd00::2", count=2000, size=100) / 2000 < 0.85
    other.lose(0)
    assert burst(one.host, other.host, "fd00::2", count=500, size=100) == 500


@pytest.mark.needs("namespaces", "offload")
def test_a_relay_adds_its_delay_in_each_direction(lab: Lab) -> None:
    one, other = two_hosts(lab, Cable(delay=0.01))
    times = ping(one.host, other.address, count=10)
    assert len(times) == 10
    assert min(times) >= 0.02
    assert statistics.median(times) < 0.04


@pytest.mark.needs("namespaces", "offload")
def test_a_relay_carries_a_stream_unchanged(lab: Lab) -> None:
    one, other = two_hosts(lab, Cable(delay=0.002))
    assert stream(one.host, other.host, other.address, 0.5).rate > 50e6


@pytest.mark.needs("namespaces", "offload")
def test_a_relay_loses_too(lab: Lab) -> None:
    one, other = two_hosts(lab, Cable(delay=0.001, loss=0.2))
    assert 0.75 < burst(one.host, other.host, "fd00::2", count=2000, size=100) / 2000 < 0.85


@pytest.mark.needs("namespaces", "rate")
def test_a_rate_limits(lab: Lab) -> None:
    one, other = two_hosts(lab, Cable(rate=20_000_000))
    assert 5e6 < stream(one.host, other.host, other.address, 0.5).rate < 20e6


@pytest.mark.needs("namespaces", "offload")
@pytest.mark.parametrize(("offload", "least", "most"), [(True, 4_000, 65_000), (False, 1_000, 1_520)])
def test_superframes_cross_whole_only_with_offload(lab: Lab, offload: bool, least: int, most: int) -> None:
    one, other = two_hosts(lab, Cable(offload=offload))
    stream(one.host, other.host, other.address, 0.2)
    counters = one.counters()
    assert least < counters.sent_bytes / counters.sent_packets < most


# -- hosts --


def test_a_host_has_its_own_network_and_the_caller_keeps_his(lab: Lab) -> None:
    def network() -> int:
        return Path("/proc/thread-self/ns/net").stat().st_ino

    before = network()
    inside = {lab.host(name).inside(network) for name in ("a", "b")}
    assert len(inside | {before}) == 3
    assert network() == before


def test_what_a_function_raises_inside_reaches_the_caller(lab: Lab) -> None:
    with pytest.raises(OSError, match="No such device"):
        lab.host("a").inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).bind(("eth9", 3)))


def test_a_private_directory_is_seen_by_its_host_alone(lab: Lab) -> None:
    name = f"/run/caetun-test-{os.getpid()}"
    one, other = lab.host("one", private=["/run"]), lab.host("other", private=["/run"])
    one.inside(lambda: Path(name).write_text("here"))
    assert one.run(["cat", name]) == "here"
    assert not other.inside(Path(name).exists)
    assert not Path(name).exists()


def test_run_returns_the_output_and_says_what_failed(lab: Lab) -> None:
    host = lab.host("a")
    assert host.run(["cat"], text="one\ntwo\n") == "one\ntwo\n"
    with pytest.raises(HostError, match=r"`sh -c echo no; exit 3` in a: exit status 3: no"):
        host.run(["sh", "-c", "echo no; exit 3"])
    with pytest.raises(HostError, match="`no-such-program` in a: the program is not installed"):
        host.run(["no-such-program"])
    with pytest.raises(HostError, match=r"not done after 0\.05 s"):
        host.run(["sleep", "60"], timeout=0.05)


def test_a_program_starts_in_the_directory_of_its_caller(lab: Lab) -> None:
    assert lab.host("a").run(["pwd"]).strip() == str(Path.cwd())


def test_a_machine_says_what_it_lacks(lab: Lab) -> None:
    assert needs("namespaces", "no-such-program") == "the program `no-such-program` is not installed"
    assert needs("namespaces", "sh") == ""


# -- nothing is left --


def processes_in(networks: set[int]) -> list[str]:
    """The processes whose network is one of these."""
    found = []
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            if path.stat().st_ino in networks:
                found.append(path.parts[2])
        except OSError:  # it ended while we looked
            continue
    return found


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait for the kernel to do its part."""
    deadline = time.monotonic() + GONE_WITHIN
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def network_of(host: Host) -> int:
    return os.fstat(host.namespaces.network).st_ino


def test_closing_ends_programs_that_went_to_the_background() -> None:
    if reason := needs("namespaces"):
        pytest.skip(reason)
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with Lab() as lab:
        host = lab.host("a")
        host.run(["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 &"])
        waiting = host.spawn(["sleep", "600"])
        networks = {network_of(host)}
        assert len(processes_in(networks)) == 2
    assert waiting.returncode == -signal.SIGKILL
    assert processes_in(networks) == []
    assert eventually(lambda: threading.active_count() <= threads)
    assert len(os.listdir("/proc/self/fd")) == descriptors


VICTIM = """
import os, signal, sys
from caetun.lab import Cable, Lab, become_root
become_root()
lab = Lab()
one, other = lab.host("one"), lab.host("other")
lab.link(one, other, left=["10.0.0.1/24"], right=["10.0.0.2/24"], cable=Cable(delay=0.01, offload=True))
one.spawn(["sleep", "600"])
other.run(["sh", "-c", "setsid sh -c 'trap : TERM HUP; sleep 600' >/dev/null 2>&1 &"])
print(*(os.fstat(host.namespaces.network).st_ino for host in lab.hosts), flush=True)
signal.pause()
"""


@pytest.fixture(params=["as we are", "as an ordinary user"])
def victim(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process that uses a Lab with a relay and programs in the background, and has said which networks it made."""
    places = [str(Path(module.__file__ or "").parents[1]) for module in (caetun, pyroute2)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    other = request.param == "as an ordinary user"
    process = subprocess.Popen(
        [interpreter_for_others() if other else sys.executable, "-c", VICTIM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        user=NOBODY if other else None,
        group=NOBODY if other else None,
        extra_groups=[] if other else None,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def interpreter_for_others() -> str:
    """A Python that a user without rights may run; the one of this environment may lie in somebody's home."""
    if os.geteuid() != 0 or Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        pytest.skip("only the real root can become somebody else")
    for python in (sys.executable, "/usr/bin/python3"):
        command = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            if subprocess.call(command, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/") == 0:
                return python
        except OSError:
            continue
    pytest.skip("no Python that an ordinary user may run")


@pytest.mark.needs("namespaces")
def test_nothing_is_left_when_its_user_is_killed(victim: subprocess.Popen[str]) -> None:
    assert victim.stdout is not None
    assert victim.stderr is not None
    words = victim.stdout.readline().split()
    if not words and "refuses user namespaces" in (complaint := victim.stderr.read()):
        pytest.skip(complaint.strip().rpartition("\n")[2])
    networks = {int(word) for word in words}
    assert len(networks) == 3, "two hosts and the relay"
    assert eventually(lambda: len(processes_in(networks)) == 4), "two programs, a shell's child, and the relay"
    victim.send_signal(signal.SIGKILL)
    assert eventually(lambda: processes_in(networks) == [])
