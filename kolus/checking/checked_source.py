"""C{CheckedSource}: a source whose backends are checked as long as they are in its list.

Its state is the checks of each backend of the last list, the results to begin with, and the
listener while it is started.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from kolus.backend import Backend, MakeEndpoint
from kolus.checking.backend_checks import BackendChecks, CheckResult, Report
from kolus.checking.health_check import HealthCheck
from kolus.interfaces import ISource
from kolus.support import check_done

if TYPE_CHECKING:
    from kolus.backoff import Rng

__all__ = ["CheckedSource"]


@implementer(ISource)
class CheckedSource:
    """Passes on the list of another source, and checks the backends in it."""

    def __init__(
        self,
        reactor: Any,
        source: Any,
        check: HealthCheck,
        report: Report,
        *,
        make_endpoint: MakeEndpoint | None = None,
        rng: Rng = random,
    ) -> None:
        """
        @param source: the other C{ISource}.
        @param report: is told after each check: the backend, and why it is down; empty: it is up.
            Give C{Pool.checked} of the pool whose group has this source.
        @param make_endpoint: as for the pool; the default is C{Backend.connector}.
        """
        self._reactor = reactor
        self._source = source
        self._check = check
        self._report = report
        self._make_endpoint = make_endpoint or (lambda its, backend: backend.connector(its))
        self._rng = rng
        self._checks: dict[Hashable, BackendChecks] = {}
        self._earlier: dict[Hashable, CheckResult] = {}
        self._listener: Callable[[Sequence[Backend]], object] | None = None

    def begin_with(self, results: Iterable[CheckResult]) -> None:
        """Begin with what checks of the same backends have found elsewhere, so that a backend that
        is down does not count as up until as many checks have failed again.

        @param results: those of another source, from C{results}.
        """
        self._earlier = {each.backend.key: each for each in results if not each.is_up}

    def start(self, listener: Callable[[Sequence[Backend]], object]) -> None:
        self._listener = listener
        check_done(f"start of {self._source!r}", self._source.start(self._told))

    def _told(self, backends: Sequence[Backend]) -> None:
        if self._listener is not None:
            self._listener(backends)  # first: if it refuses the list, the last one stays
        if self._listener is not None:  # it may have stopped this source
            self._change(backends)

    def stop(self) -> None:
        self._listener = None
        self._change(())
        self._source.stop()

    def results(self) -> list[CheckResult]:
        """What the checks of each backend in the list have found."""
        return [each.result for each in self._checks.values()]

    def _change(self, backends: Sequence[Backend]) -> None:
        before, self._checks = self._checks, {}
        for backend in backends:
            known = before.pop(backend.key, None)
            self._checks[backend.key] = known or self._make(backend)
            if known is not None:
                known.describe_as(backend)
        for gone in before.values():
            gone.stop()
        for checks in tuple(self._checks.values()):
            checks.start()

    def _make(self, backend: Backend) -> BackendChecks:
        its = (self._reactor, backend, self._check, self._report, self._rng)
        earlier = self._earlier.pop(backend.key, None)
        return BackendChecks(*its, self._make_endpoint, earlier)

    def __repr__(self) -> str:
        return f"<CheckedSource of {self._source!r}>"
