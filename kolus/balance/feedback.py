"""C{Feedback}: lets a balancer hear how long the backends take to answer."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

if TYPE_CHECKING:
    from kolus.backend import Backend

__all__ = ["Feedback"]

_log = Logger()


class Feedback:
    """Hears of leases for a balancer that has a method C{observe(backend, seconds)}.

    It does not keep the balancer, which may be made for one request, if Python lets it. Of one that
    has its C{observe} from another, as C{prefer_zone} makes, it is the other that learns.

    @ivar number: the C{id} of who learns, which another may have when that is gone.
    """

    def __init__(self, balancer: Any) -> None:
        owner = getattr(balancer.observe, "__self__", None)
        if getattr(owner, "observe", None) != balancer.observe:
            owner = balancer
        self.number = id(owner)
        self._owner: Callable[[], Any]
        try:
            self._owner = weakref.ref(owner)
        except TypeError:
            self._owner = lambda: owner

    @classmethod
    def of(cls, balancer: Any) -> Feedback | None:
        """For a balancer, if it learns."""
        return cls(balancer) if hasattr(balancer, "observe") else None

    def is_like(self, other: Feedback) -> bool:
        """Whether both are of one balancer that learns."""
        return self._owner() is other._owner()

    def is_gone(self) -> bool:
        """Whether nobody has the balancer any more."""
        return self._owner() is None

    def observed(self, backend: Backend, seconds: float) -> None:
        """A lease took so long."""
        owner = self._owner()
        try:
            if owner is not None:
                owner.observe(backend, seconds)
        except Exception:
            _log.failure("{balancer!r} raised in observe", balancer=owner)
