"""C{Client}: one of the processes that share the backends, with its own pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from twisted.python.failure import Failure
from zope.interface import implementer

from kolus import Backend, Group, ISource, KolusError, Lease, Policy, Pool, Status
from kolus.balance import Balancer
from tests.bench.sim_backend import Caller, SimBackend
from tests.bench.sim_clock import SimClock

__all__ = ["Client", "Noted", "Request", "Source"]


@implementer(ISource)
class Source:
    """A list of backends that changes when the simulation says so."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self.backends = backends
        self._listener: Callable[[Sequence[Backend]], object] | None = None

    def start(self, listener: Callable[[Sequence[Backend]], object]) -> None:
        self._listener = listener
        listener(self.backends)

    def stop(self) -> None:
        self._listener = None

    def tell(self, backends: Sequence[Backend]) -> None:
        """These are the backends now."""
        self.backends = backends
        if self._listener is not None:
            self._listener(backends)


class Noted:
    """A balancer whose choices are noted.

    @ivar chosen: the last one.
    """

    def __init__(self, balancer: Balancer, bound: bool = False) -> None:
        """
        @param bound: take each choice at its word: the request waits at that backend alone.
        """
        self._balancer = balancer
        self.chosen: Backend | None = None
        if bound:
            self.bound = True

    def __call__(self, statuses: Sequence[Status]) -> Status:
        chosen = self._balancer(statuses)
        self.chosen = chosen.backend
        return chosen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._balancer, name)  # bound and observe, if it has them


class Client:
    """Asks for leases, and holds each until the backend has answered.

    @ivar open: how many connections it has to each backend.
    @ivar most_open: the most that it ever had to one.
    """

    def __init__(
        self,
        clock: SimClock,
        policy: Policy,
        source: Source,
        balancer: Balancer | None,
        choose: Callable[[str], Balancer],
        rng: Random,
        bound: bool,
    ) -> None:
        """
        @param balancer: chooses for every request; C{None} if C{choose} makes one for each.
        """
        self.clock = clock
        self.source = source
        self.open: Counter[SimBackend] = Counter()
        self.most_open = 0
        self.pool: Pool[Caller] = Pool(clock, lambda: Caller(self), policy=policy, rng=rng)
        self._choose = choose
        self._bound = bound
        self._noted = None if balancer is None else Noted(balancer, bound)
        self.group: Group[Caller] = self.pool.group(source, self._noted)

    def opened(self, backend: SimBackend, change: int) -> None:
        """So many connections more are open."""
        self.open[backend] += change
        self.most_open = max(self.most_open, self.open[backend])

    def ask(self, request: Request) -> None:
        """Lease a connection for a request."""
        if self._noted is not None:
            noted, asked = self._noted, self.group.connect("us")
        else:
            noted = Noted(self._choose(request.key), self._bound)
            asked = self.group.connect("us", balancer=noted)
        request.chosen = noted.chosen
        asked.addCallbacks(request.leased, request.failed)


class Request:
    """One request, from when it is asked for until it is answered.

    @ivar size: how long it takes, relative to others.
    @ivar wait: seconds until it had its lease.
    @ivar latency: seconds until it was answered.
    @ivar backend: which one it was given to.
    @ivar error: why it was not answered.
    @ivar settled: how often it came to an end: once, or something is wrong.
    """

    __slots__ = (
        *("_caller", "_lease", "asked_at", "backend", "chosen", "client", "error", "key"),
        *("latency", "settled", "size", "wait"),
    )

    def __init__(self, client: Client, key: str, size: float) -> None:
        self.client = client
        self.key = key
        self.size = size
        self.asked_at = client.clock.rightNow
        self.wait: float | None = None
        self.latency: float | None = None
        self.backend: SimBackend | None = None
        self.chosen: Backend | None = None
        self.error: str | None = None
        self.settled = 0

    def leased(self, lease: Lease[Caller]) -> None:
        self.wait = self.client.clock.rightNow - self.asked_at
        backend: Any = lease.backend.endpoint
        self.backend = backend
        self._lease: Lease[Caller] | None = lease
        self._caller: Caller = lease.protocol
        self._caller.request = self
        backend.lease(1)
        backend.serve(self)

    def failed(self, failure: Failure) -> None:
        failure.trap(KolusError)
        self.error = failure.type.__name__ if failure.type else "?"
        self.settled += 1

    def answered(self) -> None:
        """Called by the backend."""
        self.latency = self.client.clock.rightNow - self.asked_at
        self._settle().release()

    def lost(self) -> None:
        """Called by the connection: it is gone."""
        self.error = "lost"
        self._settle().finished(failed=True)

    def _settle(self) -> Lease[Caller]:
        assert self._lease is not None
        assert self.backend is not None
        lease, self._lease = self._lease, None
        self._caller.request = None
        self.backend.lease(-1)
        self.settled += 1
        return lease

    @property
    def at_choice(self) -> bool:
        """Whether the backend that the balancer chose served it."""
        return self.chosen is not None and self.chosen.endpoint is self.backend
