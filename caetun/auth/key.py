"""`key`: the peer's static key, or the name in its certificate, is one that the configuration names."""

from __future__ import annotations

from collections.abc import Sequence

from caetun.auth.base import Claim, Denied
from caetun.wire.authentication import Field


class KnownKey:
    """Agrees with those that `--peer` names."""

    name = "key"
    fields: Sequence[Field] = ()

    def check(self, claim: Claim) -> str:
        """See `Method`."""
        if not claim.known:
            raise Denied("this key is not known here")
        return ""
