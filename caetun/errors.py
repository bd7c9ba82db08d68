"""Every exception CaeTun raises on purpose, by who is at fault. Any other exception is a bug.

    CaeTunError
     ├── ConfigurationError    an option, file or key given by the user is wrong            exit 2
     ├── Disagreement          the far end is set to what does not go with ours         exit 3
     ├── HostError             this machine refuses or lacks something                      exit 4
     │    ├── DeviceError      the TUN/TAP device
     │    └── NetworkError     binding, resolving, routes, addresses
     ├── AuthenticationRefused the far end does not let this side in                          exit 5
     └── PeerError             what came from the far end; never leaves the core
          ├── Malformed        bytes that do not parse; raised by decoders in `wire/`
          └── Refused          parsed, but not acceptable (authentication, replay, policy)

A message says what is wrong, why, and what to do about it, in one line.
"""

from __future__ import annotations

from caetun.types import DropReason


class CaeTunError(Exception):
    """Base of all deliberate errors."""

    exit_status = 1


class ConfigurationError(CaeTunError):
    """What the user asked for cannot be done as asked."""

    exit_status = 2


class Disagreement(CaeTunError):
    """Two ends were to agree, and do not."""

    exit_status = 3


class HostError(CaeTunError):
    """The machine lacks something, or refuses it."""

    exit_status = 4


class DeviceError(HostError):
    """The TUN/TAP device cannot be opened, set up or used."""


class NetworkError(HostError):
    """An address cannot be bound, a name not resolved, a setting of the host not made."""


class AuthenticationRefused(CaeTunError):
    """The far end does not let this side in."""

    exit_status = 5


class PeerError(CaeTunError):
    """The far end sent something unusable. Carries the reason under which the drop is counted."""

    def __init__(self, reason: DropReason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


class Malformed(PeerError):
    """Bytes that do not parse."""


class Refused(PeerError):
    """Parsed, but not acceptable."""
