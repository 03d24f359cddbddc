"""Makes the daemon, and the groups and listeners of its configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint

from kolus.config import Config
from kolus.daemon.daemon import Daemon
from kolus.daemon.front_service import FrontService, Listening
from kolus.daemon.listening.listen_endpoint import listen_endpoint
from kolus.daemon.route import Connect
from kolus.daemon.served_group import AHEAD, ServedGroup, make_source
from kolus.sources import HostResolver, name_server_from_string
from kolus.tls import ListenerCertificates
from kolus.tunnel import Front, loop_of

__all__ = ["make_daemon"]


MakeEndpoint = Callable[[str], IStreamServerEndpoint]


def make_daemon(
    reactor: Any,
    config: Config,
    load: Callable[[], Config] | None = None,
    make_endpoint: MakeEndpoint | None = None,
) -> Daemon:
    """Make the service of a configuration. Nothing is opened before it starts.

    @param load: as for C{Daemon}.
    @param make_endpoint: makes the endpoint of an address to listen on. C{None}: C{listen_endpoint}
        does.
    """
    servers = [name_server_from_string(each) for each in config.name_servers]
    if servers:  # for host names of backends too, such as those in SRV records
        reactor.installNameResolver(HostResolver(reactor, servers, reactor.nameResolver))
    return Daemon(config, _Maker(reactor, make_endpoint or partial(listen_endpoint, reactor)), load)


class _Maker:
    """Makes the parts of the daemon for a reactor. See C{Maker}."""

    def __init__(self, reactor: Any, make_endpoint: MakeEndpoint) -> None:
        self.clock = reactor
        self._make_endpoint = make_endpoint

    def make_group(self, config: Config, name: str) -> ServedGroup:
        source = self.make_source(config, name)
        return ServedGroup(self.clock, name, config.groups[name], source)

    def make_source(self, config: Config, name: str) -> Any:
        return make_source(self.clock, config.groups[name], config.name_servers)

    def make_listener(self, config: Config, name: str, connect: Connect) -> FrontService:
        settings, certificates, send_proxy = self.front_settings(config, name)
        front = Front(
            self.clock,
            connect,
            settings=settings,
            certificates=certificates,
            send_proxy=send_proxy,
            ident=AHEAD,
            loop=loop_of(self.clock),
        )
        listening = self.listening(config, name)
        return FrontService(front, listening, grace=config.grace, certificates=certificates)

    def listening(self, config: Config, name: str) -> list[Listening]:
        return [(each, self._make_endpoint(each)) for each in config.listeners[name].listen]

    def front_settings(self, config: Config, name: str) -> tuple[Any, Any, Any]:
        its = config.listeners[name]
        tls = its.settings.tls
        certificates = None if tls is None else ListenerCertificates(tls)
        return its.settings, certificates, config.groups[its.group].send_proxy
