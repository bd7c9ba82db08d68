"""What is said on the control channel between two hosts, and the gate: stories, told in virtual time."""

from __future__ import annotations

import random
from functools import partial

import pytest

from caetun.output import Output
from caetun.peers import Timing
from caetun.session.channel import MAX_MESSAGE, MET, Kind
from caetun.types import DropReason
from tests.simulator import Host, Setup, World, frame

FAST = Timing(rekey_after=3.0)
CLIENT, SERVER = Setup({"b": ["b"]}, timing=FAST), Setup({"a": []}, timing=FAST)


class Ear:
    """Keeps what a host's peers say."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.said: list[tuple[int, bytes]] = []
        host.shell = self.hear

    def hear(self, out: Output) -> None:
        for peer, kind, body in out.said:
            assert peer is self.host.peer
            self.said.append((kind, body))

    @property
    def met(self) -> int:
        """How often a far end was met."""
        return sum(kind == MET for kind, _ in self.said)

    @property
    def messages(self) -> list[tuple[int, bytes]]:
        return [(kind, body) for kind, body in self.said if kind != MET]


def say(host: Host, kind: int, body: bytes) -> bool:
    """A host says something to its only peer."""
    accepted = host.peer.say(kind, body, host.world.now, host._out)
    host._flush()
    return accepted


def meeting(seed: int = 0) -> tuple[World, Host, Host, Ear, Ear]:
    """A, who connects to B, has met B."""
    world = World(seed)
    a, b = world.host("a", CLIENT), world.host("b", SERVER)
    ears = Ear(a), Ear(b)
    world.until(lambda: all(ear.met for ear in ears), within=5.0)
    return world, a, b, *ears


def test_both_are_told_when_they_meet_and_what_either_says_arrives() -> None:
    world, a, b, at_a, at_b = meeting()
    assert say(a, Kind.CONFIGURATION, b"my name is a")
    assert say(b, Kind.CONFIGURATION, b"mine is b")
    world.run(0.1)
    assert at_b.messages == [(Kind.CONFIGURATION, b"my name is a")]
    assert at_a.messages == [(Kind.CONFIGURATION, b"mine is b")]


def test_nothing_is_said_before_they_have_met() -> None:
    world = World()
    a = world.host("a", CLIENT)
    assert not say(a, 1, b"hello?")
    world.run(1.0)


@pytest.mark.parametrize("loss", [0.1, 0.4])
def test_messages_survive_loss_disorder_and_new_keys(loss: float) -> None:
    world, a, b, at_a, at_b = meeting(seed=7)
    first = a.peer.session.current
    world.all_paths(loss=loss, jitter=0.3, duplication=0.1)
    chance = random.Random(7)
    said = [(chance.randint(1, 255), chance.randbytes(chance.choice((0, 20, MAX_MESSAGE)))) for _ in range(30)]
    for number, (kind, body) in enumerate(said):
        for host in (a, b):
            world.after(number * 0.4, partial(say, host, kind, body))
    world.until(
        lambda: len(at_a.messages) == len(at_b.messages) == 30, within=300.0
    )  # keys end after 4.5 s, and new ones take several attempts
    assert at_a.messages == at_b.messages == said
    assert a.peer.session.current is not first, "there were handshakes meanwhile"


def test_a_message_outlives_a_silence_in_which_the_far_end_was_given_up() -> None:
    world, a, b, at_a, at_b = meeting()
    world.all_paths(cut=True)
    assert say(a, 1, b"into the dark")
    world.until(lambda: not a.peer.present and not b.peer.present, within=60.0)
    assert say(a, 1, b"and after it")
    world.all_paths(cut=False)
    world.until(lambda: len(at_b.messages) == 2, within=40.0)
    assert at_b.messages == [(1, b"into the dark"), (1, b"and after it")]
    assert (at_a.met, at_b.met) == (1, 1), "nobody was started again"


@pytest.mark.parametrize("again", ["a", "b"])
@pytest.mark.parametrize("ends", ["stop", "crash"])
def test_whoever_is_started_again_is_met_again_by_both(again: str, ends: str) -> None:
    world, a, b, at_a, at_b = meeting()
    say(a, 1, b"one")
    say(b, 1, b"one")
    world.run(1.0)
    restarted = world.hosts[again]
    getattr(restarted, ends)()
    for host in (a, b):
        if host.running:
            say(host, 1, b"to nobody")
    world.run(0.5)
    restarted.start()
    world.until(lambda: (at_a.met, at_b.met) == (2, 2), within=60.0)
    say(a, 2, b"two")
    say(b, 2, b"two")
    world.run(5.0)
    assert at_a.messages == at_b.messages == [(1, b"one"), (2, b"two")]


def test_what_the_former_process_said_does_not_reach_the_ear_of_the_next() -> None:
    """Records under way while one side is started again are of a session that the other may still open."""
    world, a, b, _, at_b = meeting()
    world.path("a", "b").delay = 2.0
    say(a, 1, b"late")
    a.crash()
    world.path("a", "b").delay = 0.01
    a.start()
    world.until(lambda: at_b.met == 2, within=5.0)
    world.run(5.0)
    assert at_b.messages == []
    assert b.drops[DropReason.CHANNEL_STRANGER] >= 1


def test_a_message_follows_a_move_to_another_address() -> None:
    world, a, b, at_a, at_b = meeting()
    say(b, 1, b"before")
    world.run(0.5)
    a.outside = "elsewhere"
    say(b, 1, b"to where it was")
    say(a, 1, b"from where it is")
    world.until(lambda: len(at_a.messages) == 2 and len(at_b.messages) == 1, within=3.0)


# the gate


def test_a_held_peer_gets_and_gives_no_frames_but_is_spoken_with() -> None:
    world, a, b, at_a, _ = meeting()
    b.peer.conversation.hold("authentication")
    b.peer.conversation.hold("configuration")
    assert not b.peer.carries
    a.send(frame(1))
    b.send(frame(2))
    say(b, Kind.AUTHENTICATION, b"who are you?")
    world.run(1.0)
    assert (a.numbers, b.numbers) == ([], [])
    assert at_a.messages == [(Kind.AUTHENTICATION, b"who are you?")]
    assert b.drops[DropReason.PEER_HELD] == 2
    b.peer.conversation.release("authentication")
    assert b.peer.conversation.holds == {"configuration"}
    b.peer.conversation.release("configuration")
    a.send(frame(3))
    b.send(frame(4))
    world.run(1.0)
    assert (a.numbers, b.numbers) == ([4], [3])


def test_superframes_in_pieces_do_not_slip_through_the_gate() -> None:
    world, a, b, _, _ = meeting()
    b.peer.conversation.hold("authentication")
    a.send(frame(1, 9000))
    world.run(3.0)
    assert b.numbers == []
    assert b.drops[DropReason.PEER_HELD] == 1
