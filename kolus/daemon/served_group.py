"""C{ServedGroup}: a group of the configuration at work: its pool, and the group in it.

Its state is the group, from start to close.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from kolus.backend import Backend
from kolus.balance import NAMES
from kolus.checking import CheckedSource
from kolus.config import GroupSettings
from kolus.health import Ejection
from kolus.lease import Lease
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.sources import StaticSource, name_server_from_string, source_from_string
from kolus.tls import BackendCertificates, SecuredEndpoint
from kolus.tunnel import BackendEnd, in_place_of, loop_of

if TYPE_CHECKING:
    from kolus.group import Group

__all__ = ["AHEAD", "ServedGroup", "endpoint_maker", "make_source"]

AHEAD = "twistd kolus"
"""The ident of connections that are made ahead, and of all clients whose ident is fixed."""

_CLOSE_TIMEOUT = 5.0


MakeEndpoint = Callable[[Any, Backend], IStreamClientEndpoint]


def make_source(reactor: Any, settings: GroupSettings, servers: tuple[str, ...]) -> Any:
    """Make the source that lists the backends of a group.

    @param servers: the name servers that it asks, if it asks any; see C{Config}.
    @raise ValueError: the text of the source is invalid.
    """
    if settings.source is None:
        return StaticSource(settings.backends)
    asked = [name_server_from_string(each) for each in servers] or None
    return source_from_string(reactor, settings.source, asked)


def endpoint_maker(settings: GroupSettings) -> MakeEndpoint:
    """What makes the endpoints of a group's backends, with TLS if its settings have it.

    @raise ValueError: a certificate cannot be used.
    """
    if settings.tls is None:
        return lambda reactor, backend: in_place_of(loop_of(reactor), backend.connector(reactor))
    certificates = BackendCertificates(settings.tls)
    return lambda reactor, backend: SecuredEndpoint.around(backend.connector(reactor), certificates)


class ServedGroup:
    """Gives the clients of listeners connections to the backends of a group.

    @ivar name: its name in the configuration.
    @ivar settings: its settings.
    @ivar pool: the pool, which serves no other group.
    @ivar group: the group; C{None} before the start.
    """

    def __init__(self, reactor: Any, name: str, settings: GroupSettings, source: Any) -> None:
        """
        @param source: the C{ISource} that lists the backends; see C{make_source}.
        @raise ValueError: a certificate cannot be used.
        """
        self.name = name
        self.settings = settings
        self.group: Group[Any] | None = None
        self._source = source
        make_endpoint = endpoint_maker(settings)
        failures = settings.eject_after
        self.pool: Pool[Any] = Pool(
            reactor,
            BackendEnd,
            policy=Policy(
                limit=settings.limit,
                max_waiters=settings.max_waiters,
                min_idle=settings.connect_ahead,
                connect_timeout=settings.connect_timeout,
                ejection=Ejection(failures) if failures else None,
                balancer=NAMES[settings.balance](reactor),
                leak_after=None,  # a client may stay for as long as its listener allows
            ),
            limit=settings.total_limit,
            make_endpoint=make_endpoint,
        )
        if settings.check is not None:
            self._source = CheckedSource(
                reactor, source, settings.check, self.pool.checked, make_endpoint=make_endpoint
            )

    def start(self) -> None:
        """Make the group, which starts its source. A daemon forks before that, and what the source
        opened earlier would belong to the parent."""
        ident = AHEAD if self.settings.connect_ahead else None
        self.group = self.pool.group(self._source, name=self.name, ident=ident)

    def connect(self, ident: Hashable, timeout: float) -> Deferred[Lease[Any]]:
        """Ask for a lease for a client.

        @return: as C{Group.connect}. It waits until the source has given its first list.
        """
        assert self.group is not None, "no client comes before the start"
        return self.group.connect(ident, timeout=timeout)

    async def close(self) -> None:
        """Close the group and its pool. Leases that are still held are revoked."""
        await self.pool.close(_CLOSE_TIMEOUT)
