"""C{Daemon}: the service of C{twistd kolus}: the listeners and groups of a configuration.

Its state is the groups and the listeners by their names, and the configuration that they have.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from kolus.config import Config
from kolus.daemon.front_service import FrontService
from kolus.daemon.served_group import ServedGroup
from kolus.lease import Lease

__all__ = ["Connect", "Daemon"]

_log = Logger()

Connect = Callable[[Hashable], Deferred[Lease[Any]]]
"""Asks for a lease for a client of a listener, whose ident it is given."""


class Daemon(Service):
    """Listens until it is stopped; then it drains its listeners, and closes its groups.

    @ivar config: what it was told.
    @ivar groups: the groups by their names.
    @ivar listeners: the services of the listeners by their names.
    """

    def __init__(
        self,
        config: Config,
        make_group: Callable[[Config, str], ServedGroup],
        make_listener: Callable[[Config, str, Connect], FrontService],
    ) -> None:
        """
        @param make_group: makes the group with a name in the configuration.
        @param make_listener: makes the listener with a name in the configuration; it is given what
            asks for a lease.
        """
        self.config = config
        self.groups = {name: make_group(config, name) for name in config.groups}
        self.listeners = {
            name: make_listener(config, name, partial(self.connect, name))
            for name in config.listeners
        }

    def connect(self, name: str, ident: Hashable) -> Deferred[Lease[Any]]:
        """Ask for a lease for a client.

        @param name: the name of its listener.
        @param ident: the client's.
        @return: as C{Group.connect}. It waits until the source of the group has given a list.
        """
        its = self.config.listeners[name]
        return self.groups[its.group].connect(ident, its.settings.queue_timeout)

    def privilegedStartService(self) -> None:
        """Listen.

        @raise CannotListen: listening failed on one of the addresses.
        """
        for each in self.listeners.values():
            each.privilegedStartService()

    def startService(self) -> None:
        """Listen, unless C{privilegedStartService} did so already, and start the groups.

        @raise CannotListen: listening failed on one of the addresses.
        """
        for listener in self.listeners.values():
            listener.startService()
        super().startService()  # type: ignore[no-untyped-call]
        for group in self.groups.values():
            group.start()

    def stopService(self) -> Deferred[None]:
        """Stop listening, drain the listeners, and close the groups.

        @return: fires with C{None} when no connection is left.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    def abort(self) -> None:
        """Abort all clients that are left, so that it ends at once."""
        for each in self.listeners.values():
            each.front.abort()

    def tell_status(self) -> None:
        """Log a line about each listener and each group."""
        for name, listener in self.listeners.items():
            _log.info(
                "listener {name}: {clients} clients, {served} were served, {refused} refused",
                name=name,
                clients=listener.front.clients,
                served=listener.front.served,
                refused=listener.front.refused,
            )
        for served in self.groups.values():
            if served.group is not None:
                _log.info("{status}", status=str(served.group.status()))

    async def _stop(self) -> None:
        await gatherResults([each.stopService() for each in self.listeners.values()])
        for group in self.groups.values():
            await group.close()
