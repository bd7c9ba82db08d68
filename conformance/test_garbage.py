"""100,000 datagrams of garbage at a tunnel in use: not one answer, not one uncounted, and the session notices nothing.

The garbage is random, or made of handshakes and records that really crossed the network: flipped, cut, lengthened,
replayed, with other indices, other piece numbers. Whoever made it has no key; where it shows a right `mac1`, that was
copied together with everything the code covers.
"""

from __future__ import annotations

import itertools
import random
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from caetun.lab import Cable, Host, Lab
from caetun.types import DropReason
from caetun.wire.handshake import MAC_SIZE
from caetun.wire.record import COOKIE_REPLY, HEADER_SIZE, INITIATION, MAX_PIECES, RECORD, RESPONSE
from tests.tunnel.capture import Capture, Datagram
from tests.tunnel.ends import (
    INNER4,
    OUTER4,
    PATIENCE,
    PORT,
    KeyMaker,
    key_arguments,
    ping,
    secret_arguments,
    start,
    tunnel_arguments,
    two_hosts,
)

pytestmark = [pytest.mark.needs("namespaces", "tun", "ping", "ip", "offload"), pytest.mark.alone]

# chosen by us
_COUNT: Final = 100_000
_BLOCK: Final = 500
"""Datagrams sent before we wait until the tunnel has read them: far below what its socket's buffer holds."""
_INDICES: Final = (4, 8)
_COUNTER_AT: Final = 8
_LONGEST: Final = 1472
"""Bytes of a UDP datagram on a cable of 1,500."""
_PIECES_EXPIRE: Final = 1.2
"""Seconds, a little longer than unfinished records are kept."""
_REPLAYS: Final = 5
"""Of whole initiations: well below the rate at which the tunnel would feel under load, and hand out cookies."""
_REASONS: Final = {
    DropReason.DATAGRAM_SHORT,
    DropReason.DATAGRAM_TYPE,
    DropReason.RECORD_MALFORMED,
    DropReason.RECORD_UNKNOWN_SESSION,
    DropReason.RECORD_REPLAYED,
    DropReason.RECORD_FORGED,
    DropReason.RECORD_INCOMPLETE,
    DropReason.HANDSHAKE_MALFORMED,
    DropReason.HANDSHAKE_MAC,
    DropReason.HANDSHAKE_REPLAYED,
    DropReason.HANDSHAKE_UNEXPECTED,
}
"""What the garbage is made to be dropped for."""


class Mutator:
    """Makes garbage of what was captured."""

    def __init__(self, captured: list[bytes], chance: random.Random) -> None:
        """`captured`: datagrams of all kinds."""
        self._captured = captured
        self._genuine = {datagram[:-MAC_SIZE] for datagram in captured if datagram[0] != RECORD}
        self._chance = chance
        self._numbers = itertools.count(1 << 40)
        self._ways = (self._noise, self._typed, self._flipped, self._cut, self._longer, self._index, self._piece)

    def datagrams(self, count: int) -> Iterator[bytes]:
        """So many of them, none of which may complete what another began."""
        while count:
            datagram = self._chance.choice(self._ways)()
            # One that is unchanged up to mac1 is no garbage: `replay` sends those.
            if datagram[:-MAC_SIZE] not in self._genuine:
                yield self._alone(datagram)
                count -= 1

    def _alone(self, datagram: bytes) -> bytes:
        """A piece of a record gets a counter of its own: what the tunnel counts is records it could not complete."""
        if len(datagram) > HEADER_SIZE and datagram[0] == RECORD and 1 < datagram[2] <= MAX_PIECES:
            number = next(self._numbers).to_bytes(8, "big")
            return datagram[:_COUNTER_AT] + number + datagram[HEADER_SIZE:]
        return datagram

    def _noise(self) -> bytes:
        return self._chance.randbytes(self._chance.choice((0, 1, 2, 15, 16, 17, 32, 76, 1200, self._length())))

    def _length(self) -> int:
        return self._chance.randint(0, _LONGEST)

    def _typed(self) -> bytes:
        """Random behind a type that exists and piece numbers that might."""
        kind = self._chance.choice((INITIATION, RESPONSE, COOKIE_REPLY, RECORD))
        number = self._chance.randint(0, 3)
        head = bytes((kind, number, self._chance.randint(number, 4), self._chance.randint(0, 2)))
        return head + self._chance.randbytes(self._chance.choice((60, self._length())) % (_LONGEST - 4))

    def _one(self) -> bytearray:
        return bytearray(self._chance.choice(self._captured))

    def _flipped(self) -> bytes:
        datagram = self._one()
        # half of them in the header, where a decoder decides
        end = self._chance.choice((HEADER_SIZE, len(datagram)))
        for bit in self._chance.sample(range(8 * end), self._chance.randint(1, 8)):
            datagram[bit // 8] ^= 1 << bit % 8
        return bytes(datagram)

    def _cut(self) -> bytes:
        datagram = self._one()
        return bytes(datagram[: self._chance.randrange(len(datagram))])

    def _longer(self) -> bytes:
        datagram = self._one()
        return bytes(datagram[:1400]) + self._chance.randbytes(self._chance.randint(1, 72))

    def _index(self) -> bytes:
        """For another session, or from another one."""
        datagram, at = self._one(), self._chance.choice(_INDICES)
        datagram[at : at + 4] = self._chance.randbytes(4)
        return bytes(datagram)

    def _piece(self) -> bytes:
        """Another piece of another count, reserved byte and suite included."""
        datagram = self._one()
        for at in self._chance.sample((1, 2, 3), self._chance.randint(1, 3)):
            datagram[at] = self._chance.choice((0, 1, 2, 4, 5, 63, 64, 65, 255))
        return bytes(datagram)


class Stranger:
    """Sends from a host of its own, no faster than the tunnel reads, and hears what comes back."""

    def __init__(self, host: Host, aim: Host) -> None:
        """`aim`: the host whose tunnel listens."""
        self.sent = 0
        self.drops = 0
        """What the tunnel must have counted: a record or message that is refused is one, however many pieces it had."""
        self._aim = aim
        self._socket = host.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((OUTER4[0], PORT))

    def send(self, datagrams: list[bytes], drops: int | None = None) -> None:
        """Send some and wait until they are read. `drops`: how many they lead to, without: one each."""
        for datagram in datagrams:
            self._socket.send(datagram)
        self.sent += len(datagrams)
        self.drops += len(datagrams) if drops is None else drops
        deadline = time.monotonic() + PATIENCE
        while queue_of(self._aim)[0]:
            assert time.monotonic() < deadline, "the tunnel does not read any more"
            time.sleep(0.001)

    def close(self) -> None:
        self._socket.close()


def queue_of(host: Host) -> tuple[int, int]:
    """Of the listening socket: bytes that wait to be read, datagrams lost for want of room (proc_net_udp(5))."""
    for line in host.inside(lambda: Path("/proc/thread-self/net/udp").read_text()).splitlines()[1:]:
        words = line.split()
        if words[1].endswith(f":{PORT:04X}"):
            return int(words[4].partition(":")[2], 16), int(words[-1])
    raise AssertionError(f"nobody listens on port {PORT}")


def overheard(datagrams: list[Datagram], kind: int, outgoing: bool = True) -> list[bytes]:
    """Those of one kind that the listening end has received, or sent, once each."""
    return [each.payload for each in datagrams if each.outgoing is outgoing and each.payload[0] == kind]


def replay(stranger: Stranger, datagrams: list[Datagram], chance: random.Random) -> None:
    """What was overheard, unchanged; and once more with a `mac2` of our own, which only a side under load looks at."""
    records = overheard(datagrams, RECORD)
    stranger.send(records, drops=len({record[:1] + record[_INDICES[0] : HEADER_SIZE] for record in records}))
    stranger.send(overheard(datagrams, RESPONSE, outgoing=False))
    initiations = overheard(datagrams, INITIATION)
    message = [piece for piece in initiations if piece[4:8] == initiations[-1][4:8]]
    for _ in range(_REPLAYS):
        stranger.send(message, drops=1)
        stranger.send([piece[:-MAC_SIZE] + chance.randbytes(MAC_SIZE) for piece in message], drops=1)


def forge(stranger: Stranger, index: bytes, number: int, chance: random.Random) -> None:
    """A record in three pieces for a session that exists, complete and wrong."""
    rest = index + ((1 << 50) + number).to_bytes(8, "big")
    stranger.send([bytes((RECORD, piece, 3, 0)) + rest + chance.randbytes(100) for piece in range(3)], drops=1)


def pester(stranger: Stranger, datagrams: list[Datagram], seed: int) -> None:
    """Everything a stranger can do with what it has overheard."""
    chance = random.Random(seed)
    index = overheard(datagrams, RECORD)[0][4:8]
    replay(stranger, datagrams, chance)
    for number in range(100):
        forge(stranger, index, number, chance)
    garbage = Mutator([each.payload for each in datagrams], chance).datagrams(_COUNT - stranger.sent)
    while block := list(itertools.islice(garbage, _BLOCK)):
        stranger.send(block)
    time.sleep(_PIECES_EXPIRE)
    forge(stranger, index, 100, chance)  # a piece that comes in makes the tunnel look for records that were given up


@pytest.mark.parametrize(("keys", "seed"), [(secret_arguments, 1), (key_arguments, 2)], ids=["secret", "keys"])
def test_garbage_is_counted_and_never_answered(lab: Lab, keys: KeyMaker, seed: int) -> None:
    hosts, far = two_hosts(lab, Cable(offload=False)), lab.host("stranger")
    lab.link(hosts[0], far, left=["10.98.0.1/24"], right=["10.98.0.2/24"])
    far.run(["ip", "route", "add", "10.99.0.0/24", "via", "10.98.0.1"])
    arguments = tunnel_arguments(hosts, keys=keys)
    with Capture(hosts[1], "eth0") as capture, Capture(hosts[0], "eth1") as answers:
        one, other = start(hosts, arguments)
        for size in (10, 500, 1400, 8000):
            assert ping(hosts[1], INNER4[0], size=size) == 3
        datagrams = capture.take()
        before = one.drops()
        session = hosts[1].spawn(["ping", "-n", "-q", "-i", "0.02", INNER4[0]], stdout=subprocess.PIPE)
        stranger = Stranger(far, hosts[0])
        pester(stranger, datagrams, seed)
        session.send_signal(signal.SIGINT)
        sent, answered = (int(word) for word in re.findall(rb"(\d+) (?:packets|received)", session.communicate()[0]))
        assert [each for each in answers.take() if each.outgoing] == [], "an answer"
        stranger.close()
    after = one.drops()
    assert queue_of(hosts[0])[1] == 0, "the kernel lost some: this test sends too fast"
    new = Counter(after) - Counter(before)
    assert stranger.sent >= _COUNT
    assert new.total() == stranger.drops, new
    assert new.keys() == _REASONS
    assert answered >= sent - 1 >= 50, "the session notices nothing"
    for end in (one, other):
        assert end.troubles() == []
    assert (one.stop(), other.stop()) == (0, 0)
