"""C{Audience}: who listens to a source, and what it heard last.

Both are the only state, and change in C{open}, C{close} and C{tell}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kolus.backend import Backend

__all__ = ["Audience", "Listener"]

Listener = Callable[[Sequence[Backend]], object]
"""What a source tells its backends to."""


class Audience:
    """The listener of one source: it is told what it has not heard yet."""

    def __init__(self) -> None:
        self._listener: Listener | None = None
        self._heard: list[Any] | None = None

    @property
    def has_heard(self) -> bool:
        """Whether it has been told any backends since C{open}."""
        return self._heard is not None

    def open(self, listener: Listener) -> None:
        """Listen from now on.

        @raise RuntimeError: somebody listens already.
        """
        if self._listener is not None:
            raise RuntimeError("this source is started already; stop it first")
        self._listener = listener

    def close(self) -> None:
        """Hear no more, and forget what was heard."""
        self._listener = None
        self._heard = None

    def tell(self, backends: Sequence[Backend]) -> None:
        """Call the listener, unless it has heard just this or has closed.

        The caller has changed all its state before: the listener may stop the source. What the
        listener raises comes through; then it has not heard this, and may be told again.
        """
        # Backends are equal when their endpoints are, whatever else has changed.
        news: list[Any] = [
            (each.key, each.name, each.limit, each.weight, each.zone) for each in backends
        ]
        if self._listener is None or news == self._heard:
            return
        before, self._heard = self._heard, news
        try:
            self._listener(tuple(backends))
        except BaseException:
            if self._heard is news:
                self._heard = before
            raise
