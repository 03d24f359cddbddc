"""C{Maker}: makes the parts of a daemon from a configuration, each by its name there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint

from kolus.config import Config
from kolus.daemon.front_service import FrontService, Listening
from kolus.daemon.route import Connect
from kolus.daemon.served_group import AHEAD, ServedGroup, make_source
from kolus.tls import ListenerCertificates
from kolus.tunnel import Front, loop_of

__all__ = ["MakeEndpoint", "Maker"]


MakeEndpoint = Callable[[str], IStreamServerEndpoint]
"""Makes the endpoint of an address to listen on, from its string."""


class Maker:
    """Makes groups and listeners for a reactor.

    @ivar clock: the reactor.
    """

    def __init__(self, reactor: Any, make_endpoint: MakeEndpoint) -> None:
        self.clock = reactor
        self._make_endpoint = make_endpoint

    def make_group(self, config: Config, name: str) -> ServedGroup:
        """
        @raise ValueError: a certificate cannot be used.
        """
        source = self.make_source(config, name)
        return ServedGroup(self.clock, name, config.groups[name], source)

    def make_source(self, config: Config, name: str) -> Any:
        """The C{ISource} of a group."""
        return make_source(self.clock, config.groups[name], config.name_servers)

    def make_listener(self, config: Config, name: str, connect: Connect) -> FrontService:
        """
        @param connect: asks for a lease for a client.
        @raise ValueError: a certificate cannot be used.
        """
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
        """The addresses of a listener."""
        return [(each, self._make_endpoint(each)) for each in config.listeners[name].listen]

    def front_settings(self, config: Config, name: str) -> tuple[Any, Any, Any]:
        """What the front of a listener is made and changed with.

        @raise ValueError: a certificate cannot be used.
        """
        its = config.listeners[name]
        tls = its.settings.tls
        certificates = None if tls is None else ListenerCertificates(tls)
        return its.settings, certificates, config.groups[its.group].send_proxy
