"""Makes the daemon, and the groups and listeners of its configuration."""

from __future__ import annotations

from functools import partial
from typing import Any

from kolus.config import Config
from kolus.daemon.daemon import Connect, Daemon
from kolus.daemon.front_service import FrontService
from kolus.daemon.listen_endpoint import listen_endpoint
from kolus.daemon.served_group import AHEAD, ServedGroup, make_source
from kolus.sources import HostResolver, name_server_from_string
from kolus.tls import ListenerCertificates
from kolus.tunnel import Front, loop_of

__all__ = ["make_daemon"]


def make_daemon(reactor: Any, config: Config) -> Daemon:
    """Make the service of a configuration. Nothing is opened before it starts."""
    servers = [name_server_from_string(each) for each in config.name_servers]
    if servers:  # for host names of backends too, such as those in SRV records
        reactor.installNameResolver(HostResolver(reactor, servers, reactor.nameResolver))
    return Daemon(config, partial(_make_group, reactor), partial(_make_listener, reactor))


def _make_group(reactor: Any, config: Config, name: str) -> ServedGroup:
    settings = config.groups[name]
    source = make_source(reactor, settings, config.name_servers)
    return ServedGroup(reactor, name, settings, source)


def _make_listener(reactor: Any, config: Config, name: str, connect: Connect) -> FrontService:
    its = config.listeners[name]
    tls = its.settings.tls
    front = Front(
        reactor,
        connect,
        settings=its.settings,
        certificates=None if tls is None else ListenerCertificates(tls),
        send_proxy=config.groups[its.group].send_proxy,
        ident=AHEAD,
        loop=loop_of(reactor),
    )
    listening = [(each, listen_endpoint(reactor, each)) for each in its.listen]
    return FrontService(front, listening, grace=config.grace)
