"""Settings -> who asks and who answers on the control channel about who may come in."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from caetun import logs
from caetun.errors import CaeTunError
from caetun.session.channel import Kind
from caetun.types import DropReason, Drops

if TYPE_CHECKING:
    from caetun.auth.password import Users
    from caetun.daemon.applicant import Applicant
    from caetun.daemon.doorkeeper import Doorkeeper
    from caetun.daemon.engine import Core
    from caetun.daemon.services import Hands, Services
    from caetun.daemon.worker import Worker
    from caetun.keyfiles import Keys
    from caetun.peers import Peer
    from caetun.security.trust import Trust
    from caetun.settings import Settings
    from caetun.wire.authentication import Message

log = logs.logger("auth")


class Authentication:
    """The service for authentication: both sides of it."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        core: Core,
        trust: Trust | None,
        hands: Hands,
        services: Services,
    ) -> None:
        """From now on peers are held, if they are to be asked. Raises ConfigurationError."""
        self._hands = hands
        self._services = services
        self._drops: Drops = core.node.drops
        self._trust = trust
        self._users: Users | None = None
        self._doorkeeper: Doorkeeper | None = None
        self._core = core
        self._worker: Worker | None = None
        self._credentials = settings.credentials
        self._keys = keys
        self._applicant: Applicant | None = None
        if settings.credentials is not None:
            self._applicant = self._make_applicant()
        if settings.auth:
            self._doorkeeper = self._make_doorkeeper(settings)
        services.add(Kind.AUTHENTICATION, self)

    def _make_applicant(self) -> Applicant:
        # Imported here: most tunnels are not asked.
        from caetun.daemon.applicant import Applicant

        own = self._core.identity.target
        return Applicant(self._credentials, self._keys, own, self._slow_work(), self._say, self._hands.stop)

    def _make_doorkeeper(self, settings: Settings) -> Doorkeeper:
        # Imported here: most tunnels ask nobody.
        from caetun.auth.password import Users
        from caetun.auth.registry import Means, make_chain
        from caetun.daemon.doorkeeper import Doorkeeper

        if settings.users is not None:
            self._users = Users(settings.users)
            if self._users.warning:
                logs.event(log, logging.WARNING, "key.readable", self._users.warning)
        means = Means(self._users, self._trust, settings.auth_command, settings.security == "tls")
        chain = make_chain(settings.auth, means)
        keeper = Doorkeeper(self._core, self._hands, self._services, self._slow_work(), chain, self._say)
        keeper.users, keeper.trust = self._users, self._trust
        return keeper

    def _slow_work(self) -> Worker:
        from caetun.daemon.worker import Worker

        self._worker = self._worker or Worker(self._hands.loop)
        return self._worker

    def start(self) -> None:
        """Begin."""
        if self._doorkeeper is not None:
            self._doorkeeper.start()

    def close(self) -> None:
        """End."""
        if self._doorkeeper is not None:
            self._doorkeeper.close()
        if self._applicant is not None:
            self._applicant.close()

    def _say(self, peer: Peer, message: Message) -> None:
        from caetun.wire.authentication import encode

        self._hands.say(peer, Kind.AUTHENTICATION, encode(message))

    def met(self, peer: Peer) -> None:
        """A far end is there that knows nothing of what was said before."""
        if self._doorkeeper is not None:
            self._doorkeeper.met(peer)

    def deaf(self, peer: Peer) -> None:
        """A far end is there that cannot be asked."""
        if self._doorkeeper is not None:
            self._doorkeeper.deaf(peer)

    def gone(self, peer: Peer) -> None:
        """It is no peer any more: the doorkeeper has seen to it."""

    def heard(self, peer: Peer, body: bytes) -> None:
        """A peer has said something about authentication. Raises Malformed."""
        # Imported here: most tunnels neither ask nor are asked.
        from caetun.wire.authentication import Reply, decode

        message = decode(body)
        if isinstance(message, Reply) and self._doorkeeper is not None:
            self._doorkeeper.heard(peer, message)
        elif not isinstance(message, Reply) and peer.connects:
            # Whoever calls us must not ask: what we know is for those whom we call.
            self._applicant = self._applicant or self._make_applicant()
            self._applicant.heard(peer, message)
        else:
            self._drops.count(DropReason.AUTH_UNEXPECTED)

    def reread(self) -> None:
        """SIGHUP: read users and revocations again, and send away whom they do not name any more."""
        for file in (self._users, self._trust):
            try:
                if file is not None:
                    file.reload()
            except CaeTunError as error:
                logs.event(log, logging.ERROR, "reload.failed", f"unchanged: {error}")
        if self._doorkeeper is not None:
            self._doorkeeper.reread()
        elif self._trust is not None:
            from caetun.daemon.certificates import expel_revoked

            expel_revoked(self._core.node, self._hands, self._trust)

    def revoke(self, name: str) -> int:
        """Shut out a user or peer until this process ends; returns how many sessions that ended."""
        if self._doorkeeper is not None:
            return self._doorkeeper.revoke(name)
        found = [peer for peer in self._core.node.peers.values() if peer.name == name]
        for peer in found:
            self._hands.expel(peer, "revoked")
            self._core.identity.unlearn(peer.ident)
        return len(found)
