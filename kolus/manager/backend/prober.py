"""C{Prober}: probes an ejected backend, so that no caller's request has to."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kolus.connection import why_refused
from kolus.endpoints import machine_fault
from kolus.errors import KolusError, reason_of
from kolus.support import Step

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.lease import Lease
    from kolus.manager.backend.record import BackendRecord
    from kolus.policy import Policy

__all__ = ["Prober"]

_log = Logger()


class Prober:
    """Leases a connection to the backend, runs the policy's probe on it, and settles the lease.

    The health of the backend learns the result from that lease, as from any other.
    """

    def __init__(
        self,
        connect: Callable[..., Deferred[Lease[Any]]],
        clock: IReactorTime,
        policy: Policy,
    ) -> None:
        """
        @param connect: as C{Pool.connect}.
        @param policy: a policy that has a C{probe}.
        """
        self._connect = connect
        self._clock = clock
        self._policy = policy

    def probe(self, record: BackendRecord) -> None:
        """Probe a backend, for the ident that used it last, since others may be refused."""
        health = record.health
        probe = health.hook_begins()
        backend = record.backend
        probing = Deferred.fromCoroutine(self._probe(backend, record.last_ident))
        # hook_ended must run whatever happens, or the backend would stay ejected for ever.
        probing.addErrback(
            lambda failure: _log.failure("probing {backend} failed", failure, backend=backend)
        )
        probing.addCallback(lambda _: health.hook_ended(probe))

    async def _probe(self, backend: Backend, ident: Hashable) -> None:
        assert self._policy.probe is not None
        timeout = self._policy.probe_timeout
        began = self._clock.seconds()
        try:
            lease = await self._connect(ident, backend, timeout=timeout)
        except KolusError:
            return  # the manager has counted the failure
        left = None if timeout is None else max(0.0, began + timeout - self._clock.seconds())
        step = Step(self._clock, "the probe", left)
        lease.when_lost().addCallback(lambda reason: step.give_up(Failure(reason)))
        step.begin(self._policy.probe, lease.protocol)
        error = await step.outcome.addCallbacks(why_refused, reason_of)
        if lease.held:
            if error is None:
                lease.release()
            else:
                lease.finished(failed=machine_fault(error) is None)
