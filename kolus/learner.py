"""C{Learner}: lets a balancer hear how long the backends take to answer."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from kolus.backend import Backend

__all__ = ["Learner"]

_log = Logger()


class Learner:
    """Watches backends for a balancer that has a method C{observe(backend, seconds)}.

    Two of one balancer are equal.
    """

    def __init__(self, balancer: Any) -> None:
        self._balancer = balancer

    def changed(self, backend: Backend) -> None:
        """What it has to do does not matter here."""

    def observed(self, backend: Backend, seconds: float) -> None:
        """A lease took so long."""
        try:
            self._balancer.observe(backend, seconds)
        except Exception:
            _log.failure("{balancer!r} raised in observe", balancer=self._balancer)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Learner) and other._balancer is self._balancer

    def __hash__(self) -> int:
        return hash(id(self._balancer))
