"""TCP, plain or within TLS: records with a 4-byte length in front (docs/wire.md, section 6)."""

from __future__ import annotations

from typing import Final

from caetun.transports.base import Context, Endpoint, Link, Target
from caetun.transports.pipes import Pipe, open_pipe
from caetun.transports.registry import DEFAULT_PORTS
from caetun.transports.stream import StreamLink
from caetun.wire.framing import LengthCodec

SECURE: Final = frozenset(("tls", "wss"))
"""Schemes within TLS."""


class StreamTransport:
    """Fulfils `transports.base.Transport` for the schemes `tcp` and `tls`."""

    def __init__(self, name: str) -> None:
        """`name`: the scheme."""
        self.name = name
        self.default_port = DEFAULT_PORTS[name]

    def listen(self, where: Target, context: Context) -> Endpoint:
        """Wait for far ends, on a socket shared with the other stream transports of the same address."""
        from caetun.transports.listener import stream_listener

        return stream_listener(where, context).enable(self.name, where.path)

    def dial_now(self, target: Target, context: Context) -> list[Link] | None:
        """None: a connection takes a round trip."""
        return None

    async def dial(self, target: Target, context: Context) -> list[Link]:
        """One link, to the address that answered first. Raises NetworkError."""
        pipe = await self._connect(target, context)
        address, port = pipe.far
        return [
            StreamLink(
                pipe,
                LengthCodec(),
                context,
                name=f"{self.name} {f'[{address}]' if ':' in address else address}:{port}",
                proven=True,
            )
        ]

    async def _connect(self, target: Target, context: Context) -> Pipe:
        """A connection, within TLS if the scheme says so. Raises NetworkError."""
        tls = None
        if self.name in SECURE:
            from caetun.transports.tls import client_context

            tls = client_context(context.options, context.report)
        server_name = context.options.sni or target.host
        return await open_pipe(target.host, target.port, context, tls=tls, server_name=server_name)


TCP = StreamTransport("tcp")
TLS = StreamTransport("tls")
