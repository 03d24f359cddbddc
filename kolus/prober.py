"""C{Prober}: tries a backend that was ejected, so that no caller's request has to."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime

from kolus.account import Account
from kolus.backend import Backend
from kolus.errors import KolusError
from kolus.lease import Lease
from kolus.policy import Policy

__all__ = ["Prober"]


class Prober:
    """Leases a connection to the backend, runs the policy's probe on it, and settles the lease.

    How that went the backend's health hears as of any other lease.
    """

    def __init__(
        self,
        connect: Callable[..., Deferred[Lease[Any]]],
        clock: IReactorTime,
        policy: Policy,
    ) -> None:
        """
        @param connect: as C{Pool.connect}.
        @param policy: with C{probe}.
        """
        self._connect = connect
        self._clock = clock
        self._policy = policy

    def probe(self, account: Account) -> None:
        """Try a backend; for the ident that used it last, since others may be refused."""
        health = account.health
        probe = health.hook_begins()
        probing = Deferred.fromCoroutine(self._probe(account.backend, account.last_ident))
        probing.addCallback(lambda _: health.hook_ended(probe))

    async def _probe(self, backend: Backend, ident: Hashable) -> None:
        assert self._policy.probe is not None
        timeout = self._policy.probe_timeout
        began = self._clock.seconds()
        try:
            lease = await self._connect(ident, backend, timeout=timeout)
        except KolusError:
            return  # what counts as a failure was counted
        work = maybeDeferred(self._policy.probe, lease.protocol)
        lease.when_lost().addCallback(lambda _: work.cancel())
        try:
            if timeout is not None:
                left = began + timeout - self._clock.seconds()
                work.addTimeout(max(0.0, left), self._clock)
            went_well = await work is not False
        except Exception:
            went_well = False
        if lease.held:
            if went_well:
                lease.release()
            else:
                lease.finished(failed=True)
