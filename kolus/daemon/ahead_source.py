"""C{AheadSource}: connects to each backend as soon as a source lists it.

Its state is the list that it gave last.
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
from kolus.pool import Pool

if TYPE_CHECKING:
    from kolus.backend import Backend

__all__ = ["AheadSource"]

_log = Logger()


@implementer(ISource)
class AheadSource:
    """Wraps another source, and opens connections to its backends before a client needs them.

    The pool's policy says in C{min_idle} how many connections each backend keeps ready.
    """

    def __init__(self, source: Any, pool: Pool[Any], ident: Hashable) -> None:
        """
        @param source: the C{ISource} to wrap.
        @param ident: the ident of the connections.
        """
        self._source = source
        self._pool = pool
        self._ident = ident
        self._backends: dict[Hashable, Backend] = {}

    def start(self, listener: Callable[[Sequence[Backend]], object]) -> None:
        def told(backends: Sequence[Backend]) -> None:
            before, self._backends = self._backends, {each.key: each for each in backends}
            listener(backends)  # first, so that waiting requests are served first
            for each in backends:
                if each.key not in before:
                    self._connect(each)

        self._source.start(told)

    def stop(self) -> None:
        self._backends = {}
        self._source.stop()

    def _connect(self, backend: Backend) -> None:
        """Make the manager by a first connect; it then keeps connections ready by itself."""
        if backend.key in self._backends:
            maybeDeferred(self._pool.warm, backend, ident=self._ident).addErrback(
                self._connect_failed, backend
            )

    def _connect_failed(self, failure: Failure, backend: Backend) -> None:
        failure.trap(KolusError, ValueError)  # ValueError: the endpoint refuses its arguments
        if failure.check(Closed):
            return
        _log.warn(
            "no connection to {backend} is ready yet, going on without: {error}",
            backend=backend,
            error=failure.getErrorMessage(),
        )
