"""TCP, plain or within TLS: records with a 4-byte length in front (docs/wire.md, section 6)."""

from __future__ import annotations

from caetun.transports.base import Context, Endpoint, Link, Target
from caetun.transports.pipes import open_pipe
from caetun.transports.registry import DEFAULT_PORTS
from caetun.transports.stream import StreamLink
from caetun.wire.framing import LengthCodec


class StreamTransport:
    """Fulfils `transports.base.Transport` for the schemes `tcp` and `tls`."""

    default_port = DEFAULT_PORTS["tcp"]

    def __init__(self, name: str) -> None:
        """`name`: the scheme."""
        self.name = name

    def listen(self, where: Target, context: Context) -> Endpoint:
        """Wait for far ends, on a socket shared with the other stream transports of the same address."""
        from caetun.transports.listener import stream_listener

        return stream_listener(where, context).enable(self.name, where.path)

    def dial_now(self, target: Target, context: Context) -> list[Link] | None:
        """None: a connection takes a round trip."""
        return None

    async def dial(self, target: Target, context: Context) -> list[Link]:
        """One link, to the address that answered first. Raises NetworkError."""
        tls = None
        if self.name == "tls":
            from caetun.transports.tls import client_context

            tls = client_context(context.options, context.report)
        server_name = context.options.sni or target.host
        pipe = await open_pipe(target.host, target.port, context, tls=tls, server_name=server_name)
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


TCP = StreamTransport("tcp")
TLS = StreamTransport("tls")
