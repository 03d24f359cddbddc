"""C{Steered}: a daemon with its admin server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint

from kolus.admin import AdminService
from kolus.config import AdminSettings
from kolus.daemon.daemon import Daemon
from kolus.daemon.expiry_watch import Certificate
from kolus.daemon.front_service import FrontService
from kolus.daemon.listening.letting_go import let_go
from kolus.daemon.served_group import ServedGroup

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
        self.admin = AdminService(reactor, _Watched(daemon), settings, make_endpoint)

    def offers(self) -> list[tuple[str, IListeningPort]]:
        """The server endpoint strings of the listening ports, and the ports."""
        places = [each.text for each in self.admin.places]
        return [*self.daemon.offers(), *zip(places, self.admin.ports, strict=False)]

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


@dataclass(frozen=True, slots=True)
class _Listener:
    """See C{RunningListener}."""

    service: FrontService
    group: str

    @property
    def front(self) -> Any:
        return self.service.front

    @property
    def addresses(self) -> list[str]:
        return self.service.addresses


class _Watched:
    """A daemon as the admin server sees it."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    @property
    def certificates(self) -> list[Certificate]:
        return self._daemon.certificates()

    @property
    def groups(self) -> dict[str, ServedGroup]:
        return self._daemon.groups

    @property
    def listeners(self) -> dict[str, _Listener]:
        its = self._daemon
        return {
            name: _Listener(service, its.config.listeners[name].group)
            for name, service in its.listeners.items()
        }
