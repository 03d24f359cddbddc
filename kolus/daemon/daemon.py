"""C{Daemon}: the service of C{twistd kolus}: the listeners and groups of a configuration.

Its state is the groups and the listeners by their names, the way from each listener to its group,
those that a reload has removed and that are still used, and the configuration that all have.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from kolus.config import Config, ConfigError
from kolus.daemon.expiry_watch import DAY, Certificate, ExpiryWatch
from kolus.daemon.front_service import FrontService, Listening
from kolus.daemon.leaving import Leaving
from kolus.daemon.listening.place import address_place, place_of
from kolus.daemon.route import Connect, Route
from kolus.daemon.served_group import ServedGroup
from kolus.lease import Lease
from kolus.support import CannotListen, time_of_day

__all__ = ["Daemon", "Maker"]

_log = Logger()

_FIXED = ("name_servers", "admin", "takeover")
"""The keys that a reload cannot change."""


class Maker(Protocol):
    """Makes the parts of a daemon from a configuration, each by its name there.

    @ivar clock: the time.
    """

    clock: Any

    def make_group(self, config: Config, name: str) -> ServedGroup:
        """
        @raise ValueError: a certificate cannot be used.
        """

    def make_source(self, config: Config, name: str) -> Any:
        """The C{ISource} of a group."""

    def make_listener(self, config: Config, name: str, connect: Connect) -> FrontService:
        """
        @param connect: what asks for a lease for a client.
        @raise ValueError: a certificate cannot be used.
        """

    def listening(self, config: Config, name: str) -> list[Listening]:
        """The addresses of a listener."""

    def front_settings(self, config: Config, name: str) -> tuple[Any, Any, Any]:
        """What the front of a listener is made and changed with.

        @raise ValueError: a certificate cannot be used.
        """


class Daemon(Service):
    """Listens until it is stopped; then it drains its listeners, and closes its groups.

    @ivar config: what it was told.
    @ivar groups: the groups by their names.
    @ivar listeners: the services of the listeners by their names.
    """

    def __init__(
        self, config: Config, maker: Maker, load: Callable[[], Config] | None = None
    ) -> None:
        """
        @param load: reads the configuration again, for C{reload}; raises C{ConfigError}. C{None}:
            it is always C{config}.
        """
        self.config = config
        self._maker = maker
        self._load = load or (lambda: config)
        self._leaving = Leaving(maker.clock)
        self._expiries = ExpiryWatch(maker.clock, self.certificates)
        self.groups = {name: maker.make_group(config, name) for name in config.groups}
        made = {name: self._made(config, name, self.groups) for name in config.listeners}
        self.listeners = {name: service for name, (service, _) in made.items()}
        self._routes = {name: route for name, (_, route) in made.items()}

    def _made(
        self, config: Config, name: str, groups: dict[str, ServedGroup]
    ) -> tuple[FrontService, Route]:
        its = config.listeners[name]
        route = Route(groups[its.group], its.settings.queue_timeout)
        return self._maker.make_listener(config, name, route.connect), route

    def connect(self, name: str, ident: Hashable) -> Deferred[Lease[Any]]:
        """Ask for a lease, as the clients of a listener do.

        @param name: the name of the listener.
        @return: as C{Group.connect}. It waits until the source of the group has given a list.
        """
        return self._routes[name].connect(ident)

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

    def reload(self) -> bool:
        """Read the configuration again, and go on with it. No client is closed.

        @return: whether it goes on with what was read. Otherwise all is as before, and the log says
            why.
        """
        if not self.running:
            _log.warn("nothing is read again: the daemon does not run yet, or is ending")
            return False
        try:
            config = self._load()
            for key in _FIXED:
                if getattr(config, key) != getattr(self.config, key):
                    _log.warn("{key} stays as it was: it needs a restart", key=key)
                    config = replace(config, **{key: getattr(self.config, key)})
            self.change(config)
        except ConfigError as error:
            text = "\n".join(error.lines)
            _log.error(
                "the configuration stays as it was, as the new one is wrong:\n{text}", text=text
            )
        except (CannotListen, ValueError) as error:
            _log.error("the configuration stays as it was: {error}", error=error)
        else:
            _log.info("the configuration is reloaded")
            return True
        return False

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
        self._open(config, made)
        self.config = config
        for name in self.listeners.keys() - config.listeners.keys():
            self._leaving.add_listener(self.listeners.pop(name), self._routes.pop(name))
        self._change_groups(config, groups, sources)
        for name, (service, route) in made.items():
            self.listeners[name], self._routes[name] = service, route
            service.startService()
        for name, its in config.listeners.items():
            service, route = self.listeners[name], self._routes[name]
            route.group, route.queue_timeout = self.groups[its.group], its.settings.queue_timeout
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

    def _open(self, config: Config, made: dict[str, tuple[FrontService, Route]]) -> None:
        """Listen on all new addresses, or on none of them."""
        listening = {name: self._maker.listening(config, name) for name in config.listeners}
        self._refuse_moves(listening)
        opened = []
        try:
            for name in config.listeners:
                if name in made:
                    service, _ = made[name]
                    service.privilegedStartService()
                    opened.append((service, service.ports))
                else:
                    service = self.listeners[name]
                    opened.append((service, service.open_others(listening[name])))
        except CannotListen:
            for service, ports in opened:
                service.close(ports)
            raise

    def _refuse_moves(self, listening: dict[str, list[Listening]]) -> None:
        """New addresses are opened before old ones are closed. So one that another listener has, or
        that was written in another way, cannot be opened."""
        held = [
            (name, known, address_place(port.getHost()))
            for name, service in self.listeners.items()
            for known, port in service.offers()
        ]
        wanted = [(name, *each) for name, its in listening.items() for each in its]
        for name, description, endpoint in wanted:
            place = place_of(endpoint)
            for holder, known, taken in held:
                is_kept = (name, description) == (holder, known)
                if place is not None and taken.meets(place) and not is_kept:
                    raise CannotListen(
                        f"cannot listen on {description}: listener {holder} has {known}, and a "
                        "reload cannot change or move an address: restart, or take it out, reload, "
                        "and put it in again"
                    )

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
        for each in self.listeners.values():
            each.release()

    def stopService(self) -> Deferred[None]:
        """Stop listening, drain the listeners, and close the groups.

        @return: fires with C{None} when no connection is left.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        self._expiries.stop()
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
                clients=listener.front.clients,
                served=listener.front.served,
                refused=listener.front.refused,
            )
        for served in self.groups.values():
            if served.group is not None:
                _log.info("{status}", status=str(served.group.status()))

    async def _stop(self) -> None:
        gone = Deferred.fromCoroutine(self._leaving.stop())
        await gatherResults([each.stopService() for each in self.listeners.values()])
        await gone
        for group in self.groups.values():
            await group.close()
