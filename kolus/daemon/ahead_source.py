"""C{AheadSource}: connects to backends as soon as a source tells of them.

Its state is the backends that it told last.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.errors import Closed, KolusError
from kolus.interfaces import ISource
from kolus.lease import Lease
from kolus.pool import Pool

if TYPE_CHECKING:
    from kolus.backend import Backend

__all__ = ["AheadSource"]

_log = Logger()


@implementer(ISource)
class AheadSource:
    """Another source; wherever it tells of a backend, connections are made before a client comes.

    As many are kept ready there as the pool's policy says in C{min_idle}.
    """

    def __init__(self, source: Any, pool: Pool[Any], ident: Hashable) -> None:
        """
        @param source: an C{ISource}.
        @param ident: whom the connections are for.
        """
        self._source = source
        self._pool = pool
        self._ident = ident
        self._backends: dict[Hashable, Backend] = {}

    def start(self, listener: Callable[[Sequence[Backend]], object]) -> None:
        def told(backends: Sequence[Backend]) -> None:
            before, self._backends = self._backends, {each.key: each for each in backends}
            listener(backends)  # first: those who wait are served first
            for each in backends:
                if each.key not in before:
                    self._connect(each)

        self._source.start(told)

    def stop(self) -> None:
        self._backends = {}
        self._source.stop()

    def _connect(self, backend: Backend) -> None:
        """The first connect makes the manager, which keeps connections ready from then on."""
        if backend.key in self._backends:
            maybeDeferred(self._pool.connect, self._ident, backend).addCallbacks(
                Lease.release, self._not_ready, errbackArgs=(backend,)
            )

    def _not_ready(self, failure: Failure, backend: Backend) -> None:
        failure.trap(KolusError, ValueError)  # a kind of endpoint may refuse its arguments
        if failure.check(Closed):
            return
        _log.warn(
            "no connection to {backend} is ready yet, going on without: {error}",
            backend=backend,
            error=failure.getErrorMessage(),
        )
