"""C{ServedGroup}: a group of the configuration at work: its pool, and the group in it.

Its state is the group, from start to close, whether clients still come, and whether all managers
were told to drain after that.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from kolus.backend import Backend, MakeEndpoint
from kolus.balance import NAMES, Balancer
from kolus.checking import CheckedSource
from kolus.config import GroupSettings
from kolus.endpoints import what_is_unverified
from kolus.health import Ejection
from kolus.lease import Lease
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.sources import (
    SourceSwitch,
    StaticSource,
    WeightedSource,
    name_server_from_string,
    source_from_string,
)
from kolus.support import Work
from kolus.tls import BackendCertificates, SecuredEndpoint
from kolus.tunnel import End, in_place_of, loop_of

if TYPE_CHECKING:
    from kolus.group import Group

__all__ = ["AHEAD", "ServedGroup", "close_all", "endpoint_maker", "make_source"]

_log = Logger()

AHEAD = "twistd kolus"
"""The ident of connections that are made ahead, and of all clients whose ident is fixed."""

_CLOSE_TIMEOUT = 5.0
_LIFETIME = 1800.0
"""Seconds after which a connection that was made ahead and not used is made anew."""
_CHANGEABLE = (
    *("backends", "source", "wait_for_source", "balance", "limit", "total_limit", "send_proxy"),
)
"""The settings that change without another pool."""


def make_source(reactor: Any, settings: GroupSettings, servers: tuple[str, ...]) -> Any:
    """Make the source that lists the backends of a group.

    @param servers: the name servers that it asks, if it asks any; see C{Config}.
    @raise ValueError: the text of the source is invalid.
    """
    if settings.source is None:
        return StaticSource(settings.backends)
    asked = [name_server_from_string(each) for each in servers] or None
    return source_from_string(reactor, settings.source, asked)


def endpoint_maker(certificates: BackendCertificates | None) -> MakeEndpoint:
    """What makes the endpoints of a group's backends.

    @param certificates: those of its connections; C{None}: they have no TLS, or their endpoint
        strings say so.
    """
    if certificates is None:
        return lambda reactor, backend: in_place_of(loop_of(reactor), backend.connector(reactor))
    return lambda reactor, backend: SecuredEndpoint.around(backend.connector(reactor), certificates)


def _warning(make: MakeEndpoint) -> MakeEndpoint:
    """The same, but it warns once of each backend that nobody verifies."""
    warned: set[str] = set()

    def made(reactor: Any, backend: Backend) -> IStreamClientEndpoint:
        endpoint = backend.endpoint
        what = what_is_unverified(endpoint) if isinstance(endpoint, str) else ""
        if what and str(backend) not in warned:
            warned.add(str(backend))
            _log.warn("{backend}: {what}", backend=backend, what=what)
        return make(reactor, backend)

    return made


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
        self._is_over = self._is_drained = False
        self._reactor = reactor
        self._list = SourceSwitch(source)
        self._weights = WeightedSource(self._list)
        self._source: Any = self._weights
        self._certificates = None if settings.tls is None else BackendCertificates(settings.tls)
        make_endpoint = _warning(endpoint_maker(self._certificates))
        failures = settings.eject_after
        self.pool: Pool[Any] = Pool(
            reactor,
            partial(End, settings),
            policy=Policy(
                tcp_timeout=None,  # the ends see to that
                limit=settings.limit,
                max_waiters=settings.max_waiters,
                min_idle=settings.connect_ahead,
                connect_timeout=settings.connect_timeout,
                fail_fast=settings.fail_fast,
                ejection=Ejection(failures) if failures else None,
                balancer=self._balancer(settings),
                lifetime=_LIFETIME if settings.connect_ahead else None,  # each serves one client
                leak_after=None,  # a client may stay for as long as its listener allows
            ),
            limit=settings.total_limit,
            make_endpoint=make_endpoint,
        )
        if settings.check is not None:
            self._source = CheckedSource(
                reactor,
                self._weights,
                settings.check,
                self._checked,
                make_endpoint=make_endpoint,
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

    def reread(self) -> None:
        """Read the certificates again, for new connections.

        @raise ValueError: one cannot be used. Then all is as before.
        """
        if self._certificates is not None:
            self._certificates.reload()

    def can_become(self, settings: GroupSettings) -> bool:
        """Whether C{change} can apply other settings, so that no other pool is needed."""
        return all(
            getattr(settings, each.name) == getattr(self.settings, each.name)
            for each in fields(settings)
            if each.name not in _CHANGEABLE
        )

    def change(self, settings: GroupSettings, source: Any) -> None:
        """Go on with other settings. What was set by hand stays, where the settings do not differ.

        @param settings: what C{can_become} allows.
        @param source: the C{ISource} of these settings. It is used if they list other backends.
        """
        before, self.settings = self.settings, settings
        if settings.limit != before.limit:
            self.pool.resize(settings.limit)
        if settings.total_limit != before.total_limit:
            self.pool.resize_pool(settings.total_limit)
        if settings.balance != before.balance and self.group is not None:
            self.group.balancer = self._balancer(settings)
        if _listed(settings) != _listed(before):
            self._list.switch(source)

    def take_the_place_of(self, other: ServedGroup) -> None:
        """Share the limits with a group that leaves and still has clients."""
        self.pool.share_limits(other.pool)

    def begin_as(self, other: ServedGroup) -> None:
        """Begin with what an operator has ejected in a group whose place this one takes, and with
        what its health checks have found."""
        for backend in other.pool.ejected_by_hand():
            self.pool.eject(backend)
        if isinstance(self._source, CheckedSource) and isinstance(other._source, CheckedSource):
            self._source.begin_with(other._source.results())

    def let_go(self) -> Work[None]:
        """No more clients come: close what is idle, unless somebody waits. Leases stay. It is
        called again and again."""
        if self._is_over or self.group is None or self.group.status([]).waiting:
            return
        self._is_over = True
        backends = self.group.backends
        self.group.close()
        for each in backends:
            self.pool.drain(each)
            yield
        self._is_drained = True

    def _checked(self, backend: Backend, failure: str) -> None:
        """Called with the results of checks; the last say that all are up, as checks are over."""
        if not self._is_over:
            self.pool.checked(backend, failure)

    def set_weight(self, backend: Backend, weight: float) -> None:
        """Change the weight of a backend for as long as it is listed.

        @raise ValueError: the weight is out of its range.
        """
        self._weights.set_weight(backend, weight)

    @property
    def expiries(self) -> dict[str, float]:
        """When the client certificate expires, in seconds since 1970, by its file."""
        return {} if self._certificates is None else self._certificates.expiries

    @property
    def is_unused(self) -> bool:
        """Whether C{let_go} has ended, and nobody has a lease."""
        return self._is_drained and not any(each.leased for each in self.pool.status())

    def _balancer(self, settings: GroupSettings) -> Balancer:
        made: Balancer = NAMES[settings.balance](self._reactor)
        return made

    async def close(self) -> None:
        """Close the group and its pool. Leases that are still held are revoked."""
        self._is_over = True
        await self.pool.close(_CLOSE_TIMEOUT)


def close_all(groups: Iterable[ServedGroup]) -> Deferred[Any]:
    """Close groups, all at a time: each may take C{_CLOSE_TIMEOUT}.

    @return: fires when all of them are closed.
    """
    return gatherResults([Deferred.fromCoroutine(each.close()) for each in groups])


def _listed(settings: GroupSettings) -> object:
    """What tells one list of backends from another. Equal backends may have other limits."""
    told = [(each.key, each.name, each.limit, each.weight, each.zone) for each in settings.backends]
    return settings.source, told
