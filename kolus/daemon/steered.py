"""C{Steered}: a daemon with its admin server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint

from kolus.admin import AdminService
from kolus.config import AdminSettings
from kolus.daemon.listening.adopted import let_go

if TYPE_CHECKING:
    from kolus.daemon.daemon import Daemon

__all__ = ["Steered"]


class Steered(Service):
    """Runs a daemon, and lets operators see and steer it until it has drained.

    @ivar daemon: the daemon.
    @ivar admin: the admin server.
    """

    def __init__(
        self,
        reactor: Any,
        daemon: Daemon,
        settings: AdminSettings,
        make_endpoint: Callable[[str], IStreamServerEndpoint],
    ) -> None:
        """
        @param make_endpoint: makes the endpoint of a server endpoint string; raises C{ValueError}.
        @raise ValueError: an address of the admin server cannot be listened on.
        """
        self.daemon = daemon
        self.admin = AdminService(reactor, daemon, settings, make_endpoint)

    def offers(self) -> list[tuple[str, IListeningPort]]:
        """The server endpoint strings of the listening ports, and the ports."""
        texts = [each.text for each in self.admin.endpoints]
        return [*self.daemon.offers(), *zip(texts, self.admin.ports, strict=False)]

    def release(self) -> None:
        """Accept no more. Another process has the sockets, and serves."""
        self.daemon.release()
        ports, self.admin.ports = self.admin.ports, []
        for each in ports:
            let_go(each)

    def privilegedStartService(self) -> None:
        """Listen for clients and for operators.

        @raise CannotListen: listening failed on one of the addresses.
        """
        self.admin.privilegedStartService()
        self.daemon.privilegedStartService()

    def startService(self) -> None:
        """Start both; the admin server first, so that it counts from the first connect on.

        @raise CannotListen: listening failed on one of the addresses.
        """
        if not self.admin.ports:
            self.privilegedStartService()
        super().startService()  # type: ignore[no-untyped-call]
        self.admin.startService()
        self.daemon.startService()

    def stopService(self) -> Deferred[None]:
        """Stop the daemon; and then the admin server, so that the drain can be watched.

        @return: fires with C{None} when no connection is left.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self.daemon.stopService()
        await self.admin.stopService()
