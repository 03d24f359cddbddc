"""C{HTTPPool}: a pool of HTTP connections, as C{Agent} and treq take one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web._newclient import Request
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS
from twisted.web.iweb import IPolicyForHTTPS

from kolus.backend import Backend
from kolus.clients.client import Client, without_slots
from kolus.clients.http.agent import PoolAgent
from kolus.clients.http.endpoints import KnownEndpoints
from kolus.clients.http.exchange import Exchange
from kolus.errors import KolusError, shown
from kolus.events import Observer
from kolus.lease import Lease
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.support import check_seconds, fired

__all__ = ["HTTPPool"]

_IDENT = "http"
_REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE"})
_MOST_KNOWN = 1000
_OF_AN_AGENT = "pool.agent().request(b'GET', url), or treq.get(url, agent=pool.agent())"
_SETTINGS = {
    "maxPersistentPerHost": "HTTPPool(reactor, policy=Policy(limit=...))",
    "cachedConnectionTimeout": "HTTPPool(reactor, policy=Policy(idle_timeout=...))",
}
"""What C{HTTPConnectionPool} has as attributes, and what to write instead."""


class HTTPPool(Client):
    """A pool of HTTP connections: C{HTTPPool(reactor).agent()}, or C{Agent(reactor, pool=pool)}.

    It takes the place of C{HTTPConnectionPool}. Each host, port and scheme is a backend of its own,
    with the policy's C{limit} of connections. A request waits if all of them are in use. Its
    connection comes home when the body of the response has been read to its end.

    @ivar persistent: C{True}: connections serve one request after the other.
    @ivar retryAutomatically: whether a request that may be repeated is sent once more, on a new
        connection, if a used connection ended before any answer came. GET, HEAD, OPTIONS, DELETE
        and TRACE may be repeated, if they have no body.
    """

    persistent = True
    instead = dict.fromkeys(("request", "get", "head", "post", "put", "delete"), _OF_AN_AGENT)

    def __init__(
        self,
        reactor: Any,
        *,
        policy: Policy | None = None,
        limit: int | None = None,
        body_timeout: float | None = 60.0,
        observers: Iterable[Observer] = (),
    ) -> None:
        """
        @param policy: all settings of the pool; C{limit} is that of each host. The default is
            C{Policy(leak_after=None)}: a long download is no leak.
        @param limit: the most connections to all hosts together; C{None}: no such limit.
        @param body_timeout: seconds for which a body may have no reader, or nothing of it may come,
            or be read. Then the connection is closed, and the reader of the body gets
            C{ResponseFailed} with C{BodyTimeout}. C{None}: for ever.
        @raise ValueError: C{limit} or C{body_timeout} is invalid.
        """
        check_seconds("body_timeout", body_timeout)
        self.retryAutomatically = True
        self._reactor = reactor
        self._body_timeout = body_timeout
        self._backends: dict[Hashable, Backend] = {}
        self._connected: set[Exchange] = set()
        self.pool: Pool[Exchange] = Pool(
            reactor,
            lambda: Exchange(reactor, body_timeout, self._connected),
            policy=without_slots(policy, Policy(leak_after=None)),
            limit=limit,
            observers=observers,
        )

    if not TYPE_CHECKING:  # a type checker knows what there is

        def __setattr__(self, name, value):
            if name in _SETTINGS:
                raise AttributeError(f"{name} would have no effect here; write: {_SETTINGS[name]}")
            super().__setattr__(name, value)

    def agent(self, contextFactory: IPolicyForHTTPS | None = None) -> Agent:
        """Make an C{Agent} on this pool. C{Agent(reactor, pool=pool)} does the same at a higher
        price, because it makes an endpoint and parses the URL for each request.

        @param contextFactory: decides about trust in the hosts, as that of C{Agent} does.
        @raise TypeError: it cannot.
        """
        contexts = BrowserLikePolicyForHTTPS() if contextFactory is None else contextFactory
        if not IPolicyForHTTPS.providedBy(contexts):
            raise TypeError(
                f"contextFactory must provide IPolicyForHTTPS, such as "
                f"BrowserLikePolicyForHTTPS(), not {shown(contexts)}"
            )
        endpoints = KnownEndpoints(self._reactor, contexts, self._known)
        make: Any = PoolAgent.usingEndpointFactory
        agent: Agent = make(self._reactor, endpoints, self)
        return agent

    def _known(self, key: Hashable) -> Any:
        backend = self._backends.get(key)
        return None if backend is None else backend.endpoint

    # What Agent calls

    def getConnection(self, key: Hashable, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """A connection for one request; see C{HTTPConnectionPool.getConnection}.

        @return: fires with an object that has a C{request} method, or fails as L{Pool.connect}, and
            with C{ValueError} if the URL has a user in it, no host, or an impossible port.
        """
        try:
            backend = self._backend(key, endpoint)
            lease = self.pool.try_connect(_IDENT, backend)
        except (KolusError, ValueError):
            return fail()
        if lease is not None:  # it costs fewer callbacks
            return fired(Deferred, _Turn(lease, self, backend))
        return self.pool.connect(_IDENT, backend).addCallback(_Turn, self, backend)

    def closeCachedConnections(self) -> Deferred[None]:
        """Close idle connections now, and the others when their responses have been read.

        @return: fires when those that were idle are closed. C{close} waits for the others, too.
        """
        gone = [each.when_gone() for each in self._connected if not each.is_in_use]
        self.pool.invalidate()
        return gatherResults(gone).addCallback(lambda _: None)

    def _backend(self, key: Hashable, endpoint: IStreamClientEndpoint) -> Backend:
        backend = self._backends.get(key)
        if backend is None:
            if len(self._backends) >= _MOST_KNOWN:
                self._forget_unused()
            name = _name(key) or repr(endpoint)
            self._backends[key] = backend = Backend(endpoint, name=name)
        return backend

    def _forget_unused(self) -> None:
        used = {status.backend for status in self.pool.status()}
        self._backends = {key: each for key, each in self._backends.items() if each in used}


class _Turn:
    """One lease, for one request."""

    __slots__ = ("_backend", "_lease", "_pool")

    def __init__(self, lease: Lease[Exchange], pool: HTTPPool, backend: Backend) -> None:
        self._lease = lease
        self._pool = pool
        self._backend = backend

    def request(self, request: Request) -> Deferred[Any]:
        """Send a request; see C{HTTP11ClientProtocol.request}."""
        is_repeatable = (
            request.bodyProducer is None
            and request.method in _REPEATABLE
            and self._pool.retryAutomatically
        )
        again = self._again if is_repeatable else None
        return self._lease.protocol.exchange(self._lease, request, again)

    def _again(self, request: Request) -> Deferred[Any]:
        """Send it on a connection that has not been used before."""
        asked = self._pool.pool.connect(_IDENT, self._backend, fresh=True)
        return asked.addCallback(lambda lease: lease.protocol.exchange(lease, request))


def _name(key: Any) -> str | None:
    """The scheme, host and port of C{Agent}'s key.

    @raise ValueError: there is no host; there is a user in it, which C{Agent} cannot use, and all
        that names the backend would show the password; or the port is too large, of which the
        system would take the remainder, and connect to another server.
    """
    try:
        scheme, host, port = key
        name = f"{scheme.decode()}://{host.decode()}:{port}"
    except (TypeError, ValueError, AttributeError):
        return None
    if "@" in name:
        raise ValueError(
            "a URL for Agent has no user and password: use the header Authorization, or treq's "
            "auth=(user, password)"
        )
    if not host:
        raise ValueError("the URL has no host: write http://HOST/PATH")
    if not 0 < port < 65536:
        raise ValueError(f"the port of a URL must be from 1 to 65535, not {port}")
    return name
