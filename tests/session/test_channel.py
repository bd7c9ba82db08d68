"""The control channel: messages arrive whole, once and in order, whatever becomes of the parts on their way."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from caetun.session.channel import (
    DEAF,
    MAX_MESSAGE,
    MAX_QUEUED,
    MET,
    RETRY_LIMIT,
    RETRY_SECONDS,
    WINDOW,
    Channel,
    Kind,
)
from caetun.types import DropReason, Drops
from caetun.wire import control
from caetun.wire.control import MAX_PART, Part, PartAcknowledgement
from caetun.wire.element import HEAD


def pair() -> tuple[Channel, Channel]:
    """Two ends that have met."""
    one, other = Channel(Drops()), Channel(Drops())
    assert one.meet(2) == MET
    assert other.meet(1) == MET
    return one, other


def heard(channel: Channel, elements: list[bytes]) -> list[tuple[int, bytes]]:
    """Let a channel take in control elements; the messages that are whole."""
    messages = []
    for element in elements:
        message = control.decode(memoryview(element)[HEAD.size :])
        if isinstance(message, Part):
            messages += channel.received(message)
        else:
            assert isinstance(message, PartAcknowledgement)
            channel.acknowledged(message)
    return messages


def talk(
    one: Channel, other: Channel, chance: random.Random, loss: float, seconds: float
) -> Iterator[tuple[int, bytes]]:
    """Let them exchange what is due every 50 ms, some of it lost, doubled, late; what `other` gets."""
    late: list[tuple[float, Channel, bytes]] = []
    for step in range(round(seconds / 0.05)):
        now = step * 0.05
        for sender, receiver in ((one, other), (other, one)):
            for element in sender.poll(now):
                for _ in range(1 + (chance.random() < 0.2)):
                    if chance.random() >= loss:
                        late.append((now + chance.random(), receiver, element))
        for arrival in sorted(each for each in late if each[0] <= now):
            late.remove(arrival)
            messages = heard(arrival[1], [arrival[2]])
            if arrival[1] is other:
                yield from messages


# talking


def test_a_message_is_sent_at_once_and_acknowledged_at_once() -> None:
    one, other = pair()
    assert one.send(Kind.CONFIGURATION, b"hello")
    assert one.next_deadline(5.0) == 5.0
    assert heard(other, one.poll(5.0)) == [(Kind.CONFIGURATION, b"hello")]
    assert one.next_deadline(5.0) == 5.0 + RETRY_SECONDS
    assert other.next_deadline(5.0) == 5.0
    assert heard(one, other.poll(5.0)) == []
    assert (one.next_deadline(6.0), other.next_deadline(6.0)) == (None, None)


def test_a_long_message_goes_in_parts_that_fit_every_link() -> None:
    one, other = pair()
    body = bytes(range(256)) * 64
    assert len(body) == MAX_MESSAGE
    one.send(Kind.MESH, body)
    elements = one.poll(0.0)
    assert len(elements) == MAX_MESSAGE // MAX_PART
    assert max(map(len, elements)) < 1100
    assert heard(other, elements) == [(Kind.MESH, body)]


@pytest.mark.parametrize("size", [0, 1, MAX_PART - 1, MAX_PART, MAX_PART + 1])
def test_messages_of_every_length_keep_their_bounds(size: int) -> None:
    one, other = pair()
    for kind in (1, 200, 255):
        one.send(kind, bytes((kind,)) * size)
    assert heard(other, one.poll(0.0)) == [(kind, bytes((kind,)) * size) for kind in (1, 200, 255)]


@pytest.mark.parametrize("loss", [0.0, 0.3, 0.7])
def test_loss_doubles_and_disorder_are_not_noticed(loss: float) -> None:
    for seed in range(5):
        chance = random.Random(seed)
        one, other = pair()
        said = [(chance.randint(1, 255), chance.randbytes(chance.choice((0, 3, 900, 5000)))) for _ in range(20)]
        for kind, body in said:
            assert one.send(kind, body)
        assert list(talk(one, other, chance, loss, 200.0)) == said
        assert one.next_deadline(0.0) is None, "nothing is repeated any more"


def test_what_is_not_acknowledged_is_repeated_more_and_more_rarely() -> None:
    one, _ = pair()
    one.send(1, b"anybody?")
    at = []
    now = 0.0
    while now < 60.0:
        at.append(now)
        assert len(one.poll(now)) == 1
        assert one.poll(now) == []
        due = one.next_deadline(now)
        assert due is not None
        assert due > now
        now = due
    assert at[:5] == pytest.approx([0.0, 0.5, 1.5, 3.5, 7.5])
    assert at[-1] - at[-2] == RETRY_LIMIT


def test_no_more_than_a_window_is_under_way_and_few_are_repeated_at_once() -> None:
    one, other = pair()
    for _ in range(3):
        one.send(1, bytes(MAX_MESSAGE))
    first = one.poll(0.0)
    assert len(first) == WINDOW
    assert len(one.poll(RETRY_SECONDS)) == 4
    heard(other, first[:1])
    heard(one, other.poll(0.6))
    assert len(one.poll(0.6)) == 1, "room for one more"


def test_parts_that_came_out_of_order_are_not_sent_again() -> None:
    one, other = pair()
    one.send(1, bytes(5 * MAX_PART))
    parts = one.poll(0.0)
    assert heard(other, [parts[4], parts[2], parts[0]]) == []
    heard(one, other.poll(0.1))
    assert one.poll(RETRY_SECONDS) == [parts[1], parts[3]]
    assert heard(other, [parts[3], parts[1]]) == [(1, bytes(5 * MAX_PART))]


def test_a_new_way_there_is_reason_to_repeat_at_once() -> None:
    one, _ = pair()
    one.send(1, b"lost with the last link")
    first = one.poll(0.0)
    one.hurry(0.1)
    assert one.poll(0.1) == first


# who is there


def test_nothing_can_be_said_before_anybody_is_met() -> None:
    channel = Channel(Drops())
    assert not channel.open
    assert not channel.send(1, b"hello?")
    assert channel.next_deadline(0.0) is None


def test_a_far_end_without_a_channel_is_told_and_cannot_be_spoken_to() -> None:
    channel = Channel(Drops())
    assert channel.meet(0) == DEAF
    assert channel.meet(0) is None
    assert not channel.send(1, b"hello?")
    assert channel.meet(7) == MET, "it has been updated"
    assert channel.send(1, b"hello!")


def test_new_keys_change_nothing_and_a_far_end_started_again_everything() -> None:
    one, other = pair()
    one.send(1, b"first")
    heard(other, one.poll(0.0))
    one.send(1, b"second")
    one.poll(0.0)  # lost
    assert one.meet(2) is None
    assert one.poll(RETRY_SECONDS) != []
    assert one.meet(3) == MET
    again = Channel(Drops())
    assert again.meet(1) == MET
    one.send(1, b"third")
    assert heard(again, one.poll(1.0)) == [(1, b"third")]


# bounds


def test_the_queue_is_bounded_and_what_does_not_fit_is_counted() -> None:
    drops = Drops()
    channel = Channel(drops)
    channel.meet(1)
    for _ in range(MAX_QUEUED // MAX_MESSAGE):
        assert channel.send(1, bytes(MAX_MESSAGE))
    assert not channel.send(1, b"x")
    assert drops == {DropReason.CHANNEL_FULL: 1}
    channel.poll(0.0)
    assert channel.send(1, b"x")


@pytest.mark.parametrize(("kind", "size"), [(0, 1), (256, 1), (-1, 1), (1, MAX_MESSAGE + 1)])
def test_what_cannot_be_sent_is_our_own_mistake(kind: int, size: int) -> None:
    one, _ = pair()
    with pytest.raises(ValueError, match="a message of kind"):
        one.send(kind, bytes(size))


def test_a_message_that_never_ends_takes_no_room_and_the_next_one_is_heard() -> None:
    drops = Drops()
    channel = Channel(drops)
    channel.meet(1)
    for sequence in range(1000):
        assert channel.received(Part(sequence, 1, False, bytes(MAX_PART))) == []
        assert sum(map(len, channel._incoming)) <= MAX_MESSAGE
    assert channel.received(Part(1000, 1, True, b"")) == []
    assert channel.received(Part(1001, 2, True, b"well?")) == [(2, b"well?")]
    assert drops == {DropReason.CHANNEL_OVERSIZE: 1}


def test_parts_far_ahead_and_parts_again_are_dropped_by_name() -> None:
    drops = Drops()
    channel = Channel(drops)
    channel.meet(1)
    for sequence in range(1, 1000):
        channel.received(Part(sequence, 1, True, b""))
    assert len(channel._ahead) == 32
    assert drops == {DropReason.CHANNEL_WINDOW: 999 - 32}
    assert len(channel.received(Part(0, 1, True, b""))) == 33
    assert channel.received(Part(5, 1, True, b"")) == []
    assert drops[DropReason.CHANNEL_DUPLICATE] == 1


@pytest.mark.parametrize("answer", [PartAcknowledgement(2**64 - 1, 2**32 - 1), PartAcknowledgement(0, 2**32 - 1)])
def test_acknowledgements_of_what_was_never_sent_do_no_harm(answer: PartAcknowledgement) -> None:
    one, _ = pair()
    one.acknowledged(answer)
    one.send(1, b"hello")
    one.poll(0.0)
    one.acknowledged(answer)
    one.send(1, b"again")
    assert len(one.poll(0.0)) == 1
