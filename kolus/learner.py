"""C{Learner}: lets a balancer hear how long the backends take to answer."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from kolus.backend import Backend

__all__ = ["Learner"]

_log = Logger()


class Learner:
    """Hears of leases for a balancer that has a method C{observe(backend, seconds)}.

    It does not keep the balancer, which may be made for one request, if Python lets it.

    @ivar number: the balancer's C{id}, which another may have when it is gone.
    """

    def __init__(self, balancer: Any) -> None:
        self.number = id(balancer)
        self._balancer: Callable[[], Any]
        try:
            self._balancer = weakref.ref(balancer)
        except TypeError:
            self._balancer = lambda: balancer

    @classmethod
    def of(cls, balancer: Any) -> Learner | None:
        """For a balancer, if it learns."""
        return cls(balancer) if hasattr(balancer, "observe") else None

    def is_like(self, other: Learner) -> bool:
        """Whether both are of one balancer."""
        return self._balancer() is other._balancer()

    def is_gone(self) -> bool:
        """Whether nobody has the balancer any more."""
        return self._balancer() is None

    def observed(self, backend: Backend, seconds: float) -> None:
        """A lease took so long."""
        balancer = self._balancer()
        try:
            if balancer is not None:
                balancer.observe(backend, seconds)
        except Exception:
            _log.failure("{balancer!r} raised in observe", balancer=balancer)
