"""Rules as people write them, one a line:

    [in|out] ACTION [CONDITION...]

    out drop udp to 224.0.0.251 port 5353      no mDNS into the tunnel
    drop vlan 7                                nothing of VLAN 7, either way
    accept tcp port 22                         ... and no later rule for SSH
    mss auto                                   TCP segments that fit the MTU
    out dscp ef udp port 5060-5061             telephony first
    out dscp outer                             datagrams of the tunnel get the class of what they carry
    in ttl -1
    nat 192.168.1.0/24 to 10.20.1.0/24
    in hook NAME ip6                           Python, by the entry point `caetun.mangle`

`out` is from this host into the tunnel, `in` the other way; without, both. All conditions must hold; `not` in front of
one turns it round. `port` behind `from` or `to` is that one's port, else either port.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Final

from caetun.mangle import conditions, steps
from caetun.mangle.nat import Nat, Network
from caetun.mangle.pipeline import Condition, Pipeline, Rule
from caetun.mangle.registry import known, load_hook

# fixed by the specification
_DSCP: Final = {
    **{f"cs{number}": number * 8 for number in range(8)},
    **{f"af{group}{drop}": group * 8 + drop * 2 for group in (1, 2, 3, 4) for drop in (1, 2, 3)},
    "default": 0,
    "be": 0,
    "le": 1,
    "va": 44,
    "ef": 46,
}
"""RFC 2474, RFC 2597, RFC 3246, RFC 5865, RFC 8622."""
_MAX_VLAN: Final = 4094
_MAX_PORT: Final = 65535

# chosen by us
MAX_RULES: Final = 256
"""In one tunnel: each is looked at for each frame."""
LEAST_MSS: Final = 64
"""Bytes: a smaller one would make packets of nothing but headers."""
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)
_ACTIONS: Final = ("drop", "accept", "mss", "dscp", "ecn", "ttl", "nat", "hook")
_STEADY: Final = frozenset(_ACTIONS) - {"ttl", "hook"}
"""What they do to a flow that they have left alone once is known: all they look at is in its key, or in a SYN. All
conditions are of this kind."""
_CONDITIONS: Final = (*conditions.ETHERTYPES, *conditions.PROTOCOLS, "proto", "ethertype", "vlan", "from", "to", "port")


class Reader:
    """The words of a rule, one after the other; its errors say in which column."""

    def __init__(self, text: str) -> None:
        self._words = [(found[0], found.start() + 1) for found in re.finditer(r"\S+", text)]
        self._end = len(text) + 1
        self._at = 0

    @property
    def word(self) -> str:
        """The next word; "" at the end."""
        return self._words[self._at][0] if self._at < len(self._words) else ""

    def take(self, wanted: str) -> str:
        """The next word, taken; `wanted`: what it should be, for the error if there is none."""
        word = self.word
        if not word:
            raise ValueError(f"column {self._end}: ends here: give {wanted}")
        self._at += 1
        return word

    def takes(self, word: str) -> bool:
        """Whether the next word is this one, and then it is taken."""
        found = self.word == word
        self._at += found
        return found

    def wrong(self, wanted: str) -> ValueError:
        """The error that the word taken last is not what it should be."""
        word, column = self._words[self._at - 1]
        return ValueError(f"column {column}: {word!r}: give {wanted}")

    def number(self, low: int, high: int, what: str) -> int:
        """A whole number, `0x` in front of a hexadecimal one."""
        wanted = f"{what}, {low} to {high}"
        word = self.take(wanted)
        if not re.fullmatch("-?[0-9]{1,5}|0x[0-9a-fA-F]{1,4}", word):
            raise self.wrong(wanted)
        number = int(word, 16 if "x" in word else 10)
        if not low <= number <= high:
            raise self.wrong(wanted)
        return number

    def range(self, low: int, high: int, what: str) -> tuple[int, int]:
        """`7` or `7-9`."""
        wanted = f"{what}, {low} to {high}, or a range of them"
        return self._range(self.take(wanted), low, high, wanted)

    def ranges(self, low: int, high: int, what: str) -> tuple[tuple[int, int], ...]:
        """`7,20-29`."""
        wanted = f"{what}, {low} to {high}, or ranges of them with commas"
        return tuple(self._range(part, low, high, wanted) for part in self.take(wanted).split(","))

    def _range(self, text: str, low: int, high: int, wanted: str) -> tuple[int, int]:
        found = re.fullmatch("([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not low <= first <= last <= high:
            raise self.wrong(wanted)
        return first, last

    def network(self, wanted: str) -> Network:
        """`10.0.0.0/24`, or an address."""
        word = self.take(wanted)
        try:
            return ip_network(word)
        except ValueError:
            raise self.wrong(f"{wanted}, without bits behind the prefix") from None


def parse_rule(text: str, mtu: int = 1500) -> Rule:
    """A rule; `mtu` in bytes, of the device, is what `mss auto` goes by. Raises ValueError (column, what, what to do).

    A hook is looked up, and loaded.
    """
    reader = Reader(text)
    outgoing = reader.takes("out")
    incoming = not outgoing and reader.takes("in")
    wanted = f"in, out, or one of {', '.join(_ACTIONS)}"
    action = reader.take(wanted)
    if action not in _ACTIONS:
        raise reader.wrong(wanted)
    if action == "nat" and (outgoing or incoming):
        raise reader.wrong("it without in or out, as answers must be translated, too")
    if action == "dscp" and not outgoing and reader.word == "outer":
        reader.take("")
        raise reader.wrong("out in front of such a rule: only what leaves has packets around it that are ours")
    step = _STEPS[action](reader, mtu)
    found: list[Condition] = []
    while reader.word:
        if action == "nat":
            reader.take("")
            raise reader.wrong("nothing here, as the prefixes say which packets are meant")
        found += _conditions(reader)
    words = " ".join(text.split())
    return Rule(words, outgoing or not incoming, incoming or not outgoing, tuple(found), step, action in _STEADY)


def make_pipeline(texts: tuple[str, ...], mtu: int) -> Pipeline:
    """All rules of a tunnel. Raises ValueError."""
    if len(texts) > MAX_RULES:
        raise ValueError(f"{len(texts)} rules are too many: give {MAX_RULES} at most")
    return Pipeline([parse_rule(text, mtu) for text in texts])


# actions


def _mss(reader: Reader, mtu: int) -> steps.Step:
    if reader.takes("auto"):
        return steps.SegmentClamp(None, mtu)
    return steps.SegmentClamp(reader.number(LEAST_MSS, _MAX_PORT, "auto, or bytes"), mtu)


def _dscp(reader: Reader, mtu: int) -> steps.Step:
    if reader.takes("outer"):
        return steps.OuterClass()
    if reader.word in _DSCP:
        return steps.set_dscp(_DSCP[reader.take("")])
    return steps.set_dscp(reader.number(0, 63, "outer, a class as ef, af41, cs1, or a number"))


def _ecn(reader: Reader, mtu: int) -> steps.Step:
    if reader.take("clear") != "clear":
        raise reader.wrong("clear")
    return steps.clear_ecn()


def _ttl(reader: Reader, mtu: int) -> steps.Step:
    wanted = "hops to live, 1 to 255, or -1 for one less"
    ttl = reader.number(-255, 255, wanted)
    if not ttl:
        raise reader.wrong(wanted)
    return steps.set_ttl(ttl)


def _nat(reader: Reader, mtu: int) -> steps.Step:
    inside = reader.network("the prefix of the hosts here")
    if reader.take("to") != "to":
        raise reader.wrong("to")
    outside = reader.network("the prefix they are to be seen with")
    if inside.version != outside.version or inside.prefixlen != outside.prefixlen:
        raise reader.wrong(f"a prefix of IPv{inside.version} and /{inside.prefixlen}, as the other one is")
    return Nat(inside, outside)


def _hook(reader: Reader, mtu: int) -> steps.Step:
    name = reader.take("the name of an entry point of the group caetun.mangle")
    if name not in known():
        raise reader.wrong(f"one that is installed: {', '.join(known()) or 'there is none'}")
    return load_hook(name)


_STEPS: Final[dict[str, Callable[[Reader, int], steps.Step]]] = {
    "drop": lambda reader, mtu: steps.drop,
    "accept": lambda reader, mtu: steps.accept,
    "mss": _mss,
    "dscp": _dscp,
    "ecn": _ecn,
    "ttl": _ttl,
    "nat": _nat,
    "hook": _hook,
}


# conditions


def _conditions(reader: Reader) -> list[Condition]:
    """The next condition; two if a port belongs to it."""
    turned = reader.takes("not")
    word = reader.take(f"a condition: {', '.join(_CONDITIONS)}")
    if word in conditions.PROTOCOLS:
        found = [conditions.protocol(conditions.PROTOCOLS[word])]
    elif word in conditions.ETHERTYPES:
        found = [conditions.ethertype(conditions.ETHERTYPES[word])]
    elif word == "proto":
        found = [conditions.protocol(reader.number(0, 255, "a protocol number"))]
    elif word == "ethertype":
        found = [conditions.ethertype(reader.number(0x0600, 0xFFFF, "an EtherType as 0x88cc"))]
    elif word == "vlan":
        found = [conditions.untagged if reader.takes("none") else conditions.vlan(*_vlans(reader))]
    elif word == "port":
        found = [conditions.port(None, reader.ranges(0, _MAX_PORT, "a port"))]
    elif word in ("from", "to"):
        found = _end(reader, conditions.SOURCE if word == "from" else conditions.DESTINATION)
    else:
        raise reader.wrong(f"a condition: {', '.join(_CONDITIONS)}")
    if not turned:
        return found
    return [conditions.negated(_all(found))]


def _all(some: list[Condition]) -> Condition:
    return some[0] if len(some) == 1 else lambda frame: all(holds(frame) for holds in some)


def _vlans(reader: Reader) -> tuple[int, int]:
    return reader.range(0, _MAX_VLAN, "none, or a VLAN")


def _end(reader: Reader, which: int) -> list[Condition]:
    """An address, a prefix, a MAC address or `any`, and maybe its port."""
    found: list[Condition] = []
    if _MAC.fullmatch(reader.word):
        found.append(conditions.station(which, bytes.fromhex(reader.take("").replace(":", ""))))
    elif reader.word != "port" and not reader.takes("any"):
        found.append(conditions.address(which, reader.network("an address, a prefix, a MAC address, or any")))
    if reader.takes("port"):
        found.append(conditions.port(which, reader.ranges(0, _MAX_PORT, "a port")))
    return found
