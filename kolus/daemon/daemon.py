"""C{Daemon}: the service of C{twistd kolus}: the listeners and groups of a configuration.

Its state is the groups and the listeners by their names, those that a reload has removed and that
are still used, and the configuration that all have.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from kolus.config import Config
from kolus.daemon.expiry_watch import DAY, ExpiryWatch
from kolus.daemon.front_service import FrontService, Listening
from kolus.daemon.leaving import Leaving
from kolus.daemon.listening.listen_endpoint import listen_endpoint
from kolus.daemon.maker import MakeEndpoint, Maker
from kolus.daemon.moves import take_moves
from kolus.daemon.reloads import Reloads
from kolus.daemon.route import Route
from kolus.daemon.served_group import ServedGroup, close_all
from kolus.lease import Lease
from kolus.sources import HostResolver, name_server_from_string
from kolus.support import CannotListen, Work, time_of_day
from kolus.tls import Certificate

__all__ = ["Daemon", "make_daemon"]

_log = Logger()

Services = dict[str, FrontService]


class Daemon(Service):
    """Listens until it is stopped; then it drains its listeners, and closes its groups.

    @ivar config: what it was told.
    @ivar groups: the groups by their names.
    @ivar listeners: the services of the listeners by their names.
    """

    def __init__(
        self, config: Config, maker: Maker, load: Callable[[], Work[Config]] | None = None
    ) -> None:
        """
        @param load: reads the configuration again, for C{reload}; raises C{ConfigError}. C{None}:
            it is always C{config}.
        """
        self.config = config
        self._maker = maker
        self._reloads = Reloads(maker.clock, load or (lambda: _always(config)), self)
        self._leaving = Leaving(maker.clock)
        self._expiries = ExpiryWatch(maker.clock, lambda: self.certificates)
        self.groups = {name: maker.make_group(config, name) for name in config.groups}
        self.listeners = {name: self._made(config, name, self.groups) for name in config.listeners}

    def _made(self, config: Config, name: str, groups: dict[str, ServedGroup]) -> FrontService:
        its = config.listeners[name]
        route = Route(groups[its.group], its.settings.queue_timeout)
        service = self._maker.make_listener(config, name, route.connect)
        service.route = route
        return service

    def connect(self, name: str, ident: Hashable) -> Deferred[Lease[Any]]:
        """Ask for a lease, as the clients of a listener do.

        @param name: the name of the listener.
        @return: as C{Group.connect}. It waits until the source of the group has given a list.
        """
        return self.listeners[name].route.connect(ident)

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
        self._expiries.start()
        self._reloads.begin()

    @property
    def certificates(self) -> list[Certificate]:
        """Those that listeners show to clients, and groups to backends."""
        shown = [(f"listener {name}", each.expiries) for name, each in self.listeners.items()]
        shown += [(f"group {name}", each.expiries) for name, each in self.groups.items()]
        due = time_of_day() + self.config.expiry_warning * DAY
        return [
            Certificate(user, file, at, at < due)
            for user, expiries in shown
            for file, at in expiries.items()
        ]

    # Reloading

    def reload(self) -> Deferred[bool]:
        """Read the configuration again, and go on with it. No client is closed.

        @return: as C{Reloads.ask}.
        """
        return self._reloads.ask()

    def change(self, config: Config) -> None:
        """Go on with another configuration. No client is closed: those of a listener that is gone
        stay until they end, and so do the connections of a group that is gone, or that has another
        pool, since not every setting of a pool can be changed.

        @param config: one that this machine was found to have all for.
        @raise CannotListen: listening failed on a new address. Nothing is changed then.
        @raise ValueError: a certificate cannot be used. Nothing is changed then.
        """
        told = {name: self._maker.front_settings(config, name) for name in config.listeners}
        sources = {name: self._maker.make_source(config, name) for name in config.groups}
        groups = {name: self._kept(config, name) for name in config.groups}
        new = config.listeners.keys() - self.listeners.keys()
        made = {name: self._made(config, name, groups) for name in new}
        services = self.listeners | made
        listening = {name: self._maker.listening(config, name) for name in config.listeners}
        moves = take_moves(self.listeners, listening)
        self._open(listening, services)
        self.config = config
        for move in moves:
            services[move.giver].give(move.known, services[move.taker], move.wanted)
            _log.info("{move}", move=move)
        for name in self.listeners.keys() - config.listeners.keys():
            self._leaving.add_listener(self.listeners.pop(name))
        self._change_groups(config, groups, sources)
        for name, service in made.items():
            self.listeners[name] = service
            service.startService()
        for name, its in config.listeners.items():
            service = self.listeners[name]
            service.route.group = self.groups[its.group]
            service.route.queue_timeout = its.settings.queue_timeout
            service.keep(its.listen)
            if name not in new:
                service.change(*told[name])
        for service in (*self.listeners.values(), *self._leaving.listeners):
            service.grace = config.grace
        self._expiries.start()

    def _kept(self, config: Config, name: str) -> ServedGroup:
        """The group of this name, with its certificates read again; or one that takes its place."""
        group = self.groups.get(name)
        if group is None or not group.can_become(config.groups[name]):
            return self._maker.make_group(config, name)
        group.reread()
        return group

    def _open(self, listening: dict[str, list[Listening]], services: Services) -> None:
        """Listen on all new addresses, or on none of them."""
        opened = []
        try:
            for name, its in listening.items():
                opened.append((services[name], services[name].open_others(its)))
        except CannotListen:
            for service, ports in opened:
                service.close(ports)
            raise

    def _change_groups(
        self, config: Config, groups: dict[str, ServedGroup], sources: dict[str, Any]
    ) -> None:
        before, self.groups = self.groups, groups
        for name, group in before.items():
            if group is not groups.get(name):
                if name in groups:
                    groups[name].begin_as(group)
                self._leaving.add_group(group)
        for name, group in groups.items():
            if group is before.get(name):
                group.change(config.groups[name], sources[name])
            else:
                for other in self._leaving.predecessors(group):
                    group.take_the_place_of(other)
                group.start()

    # Ending

    def offers(self) -> list[tuple[str, IListeningPort]]:
        """The server endpoint strings of the listening ports, and the ports."""
        return [each for listener in self.listeners.values() for each in listener.offers()]

    def release(self) -> None:
        """Accept no more. Another process has the sockets, and serves."""
        self._reloads.stop()
        for each in self.listeners.values():
            each.release()

    def stopService(self) -> Deferred[None]:
        """Stop listening, drain the listeners, and close the groups.

        @return: fires with C{None} when no connection is left.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        self._expiries.stop()
        self._reloads.stop()
        return Deferred.fromCoroutine(self._stop())

    def abort(self) -> None:
        """Abort all clients that are left, so that it ends at once."""
        for each in self.listeners.values():
            each.front.abort()
        self._leaving.abort()

    def tell_status(self) -> None:
        """Log a line about each listener and each group."""
        for name, listener in self.listeners.items():
            _log.info(
                "listener {name}: {clients} clients, {served} were served, {refused} refused",
                name=name,
                clients=len(listener.front.clients),
                served=listener.front.served,
                refused=listener.front.refused,
            )
        for served in self.groups.values():
            if served.group is not None:
                _log.info("{status}", status=str(served.group.status()))

    async def _stop(self) -> None:
        gone = Deferred.fromCoroutine(self._leaving.stop())
        await gatherResults([each.stopService() for each in self.listeners.values()])
        await gatherResults([gone, close_all(self.groups.values())])


def _always(config: Config) -> Work[Config]:
    """A reading that finds the same."""
    yield
    return config


def make_daemon(
    reactor: Any,
    config: Config,
    load: Callable[[], Work[Config]] | None = None,
    make_endpoint: MakeEndpoint | None = None,
) -> Daemon:
    """Make the service of a configuration. Nothing is opened before it starts.

    @param load: as for C{Daemon}.
    @param make_endpoint: makes the endpoints of addresses; C{None}: C{listen_endpoint} does.
    """
    servers = [name_server_from_string(each) for each in config.name_servers]
    if servers:  # for host names of backends too, such as those in SRV records
        reactor.installNameResolver(HostResolver(reactor, servers, reactor.nameResolver))
    maker = Maker(reactor, make_endpoint or partial(listen_endpoint, reactor))
    return Daemon(config, maker, load)
