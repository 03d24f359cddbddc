"""C{WeightedSource}: a source whose backends may get other weights by hand.

Its state is the last list of the source that it wraps, and the weights by the keys of the backends.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from kolus.interfaces import ISource
from kolus.sources.subscription import Listener

if TYPE_CHECKING:
    from kolus.backend import Backend

__all__ = ["WeightedSource"]


@implementer(ISource)
class WeightedSource:
    """Wraps another source. A weight that was set by hand stays for as long as the backend is in
    the list."""

    def __init__(self, source: Any) -> None:
        """
        @param source: the C{ISource} to wrap.
        """
        self._source = source
        self._listener: Listener | None = None
        self._told: Sequence[Backend] = ()
        self._weights: dict[Hashable, float] = {}

    def start(self, listener: Listener) -> None:
        self._listener = listener
        self._source.start(self._heard)

    def stop(self) -> None:
        self._listener = None
        self._source.stop()

    def set_weight(self, backend: Backend, weight: float) -> None:
        """Change the weight of a backend, at once.

        @raise ValueError: the weight is out of its range, or the backend was made from an object.
        """
        if not isinstance(backend.endpoint, str):  # a copy of it would be another backend
            raise ValueError("weight: this backend was made from an object, so it stays as it is")
        replace(backend, weight=weight)  # checks the weight
        self._weights[backend.key] = weight
        if self._listener is not None and self._told:
            self._listener(self._weighted(self._told))

    def _heard(self, backends: Sequence[Backend]) -> None:
        if self._listener is None:
            return
        self._listener(self._weighted(backends))
        self._told = backends
        keys = {each.key for each in backends}
        self._weights = {key: each for key, each in self._weights.items() if key in keys}

    def _weighted(self, backends: Sequence[Backend]) -> Sequence[Backend]:
        if not self._weights:
            return backends
        return [
            replace(each, weight=self._weights[each.key]) if each.key in self._weights else each
            for each in backends
        ]
