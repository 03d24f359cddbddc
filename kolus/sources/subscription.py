"""C{Subscription}: the listener of one source, and the list that it was given last.

These two are the only state. C{open}, C{close} and C{tell} change them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kolus.backend import Backend

__all__ = ["Listener", "Subscription"]

Listener = Callable[[Sequence[Backend]], object]
"""A source calls it with the backends."""


class Subscription:
    """Calls the listener of one source, but not twice in a row with the same list."""

    def __init__(self) -> None:
        self._listener: Listener | None = None
        self._heard: list[Any] | None = None

    @property
    def has_heard(self) -> bool:
        """Whether the listener has been given a list since C{open}."""
        return self._heard is not None

    @property
    def what_stays(self) -> str:
        """What the listener has while there is no new list, for a line of the log."""
        return "the last good list stays" if self.has_heard else "there is no list yet"

    def open(self, listener: Listener) -> None:
        """Set the listener.

        @raise RuntimeError: there is one already.
        """
        if self._listener is not None:
            raise RuntimeError("this source is started already; stop it first")
        self._listener = listener

    def close(self) -> None:
        """Remove the listener, and forget the last list."""
        self._listener = None
        self._heard = None

    def tell(self, backends: Sequence[Backend]) -> None:
        """Call the listener, unless it has this list already or the subscription is closed.

        The caller must change its own state first, because the listener may stop the source.
        If the listener raises, the exception is passed on and the list counts as not delivered.
        """
        # Equal backends have equal endpoints, but the other fields may differ.
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
