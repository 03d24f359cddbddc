"""C{Feedback}: reports to a balancer how long leases were held."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from kolus.support import check_done

if TYPE_CHECKING:
    from kolus.backend import Backend

__all__ = ["Feedback"]

_log = Logger()


class Feedback:
    """Calls the method C{observe(backend, seconds)} of a balancer after each lease.

    It refers to the balancer weakly, if Python allows it: the balancer may be made for one request.
    If C{observe} is a bound method of another balancer, as C{prefer_zone} sets it, that one counts.

    @ivar number: the C{id} of the balancer. When that is gone, another may get this number.
    """

    def __init__(self, balancer: Any) -> None:
        observe = balancer.observe
        owner = getattr(observe, "__self__", None)
        self._is_function = False
        if getattr(owner, "observe", None) != observe:
            # What wraps a balancer may have its function, which is to hear of each lease once.
            self._is_function = balancer.observe is observe  # else it is made anew each time
            owner = observe if self._is_function else balancer
        self.number = id(owner)
        self._owner: Callable[[], Any]
        try:
            self._owner = weakref.ref(owner)
        except TypeError:
            self._owner = lambda: owner

    @classmethod
    def of(cls, balancer: Any) -> Feedback | None:
        """The feedback for a balancer; C{None} if it has no C{observe}."""
        return cls(balancer) if hasattr(balancer, "observe") else None

    def has_same_balancer(self, other: Feedback) -> bool:
        """Whether both belong to the same balancer."""
        return self._owner() is other._owner()

    def is_gone(self) -> bool:
        """Whether the balancer has been garbage-collected."""
        return self._owner() is None

    def observed(self, backend: Backend, seconds: float) -> None:
        """Report that a lease was held for so many seconds. Exceptions of C{observe} are logged."""
        owner = self._owner()
        try:
            if owner is not None:
                told = (owner if self._is_function else owner.observe)(backend, seconds)
                if told is not None:
                    check_done("it", told)
        except BaseException:
            _log.failure("{balancer!r} raised in observe", balancer=owner)
