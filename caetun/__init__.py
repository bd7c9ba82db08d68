"""CaeTun: a tunnel daemon that carries IP packets or Ethernet frames over any transport, sealed end to end."""

__version__ = "0.1.0"
