"""A rule of somebody else: name look-ups get a class of their own, and packets that carry IPv4 options stay out.

    caetun --mangle 'out hook tidy' ...

The entry point names `tidy`; `docs/modules.md` goes through this file.
"""

from __future__ import annotations

from caetun.mangle.frame import Frame

_CS4 = 4 << 5  # RFC 2474: the upper six bits of IPv4's second byte
_DNS = 53


def tidy(frame: Frame, outgoing: bool) -> bool:
    """Fulfils `mangle.registry.Hook`: False drops the frame."""
    packet = frame.packet
    if packet is None or packet.version != 4:
        return True
    if packet.transport - frame.network > 20:
        return False
    ports = frame.ports()
    if ports is not None and _DNS in ports:
        at = frame.network + 1
        frame.replace(at, bytes((_CS4 | frame.head[at] & 0b11,)))  # the IP header's checksum follows
    return True
