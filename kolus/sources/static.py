"""C{StaticSource}: backends that never change."""

from __future__ import annotations

from collections.abc import Iterable

from zope.interface import implementer

from kolus.backend import AnyBackend, Backend
from kolus.interfaces import ISource
from kolus.sources.subscription import Listener, Subscription

__all__ = ["StaticSource"]


@implementer(ISource)
class StaticSource:
    """Gives its listener a fixed list, at once.

    @raise ValueError: there is no backend, one is given twice, or one is invalid.
    @raise TypeError: one has a type that cannot name a backend.
    """

    def __init__(self, backends: Iterable[AnyBackend]) -> None:
        if isinstance(backends, str):
            raise ValueError(f"expected several backends, not the string {backends!r}")
        self.backends = tuple(Backend.of(each) for each in backends)
        self._subscription = Subscription()
        if not self.backends:
            raise ValueError("a static source needs at least one backend")
        seen: set[Backend] = set()
        for each in self.backends:
            if each in seen:
                raise ValueError(f"the backend {each.endpoint} is given twice; leave one out")
            seen.add(each)

    def start(self, listener: Listener) -> None:
        self._subscription.open(listener)
        self._subscription.tell(self.backends)

    def stop(self) -> None:
        self._subscription.close()

    def __repr__(self) -> str:
        return f"<StaticSource {', '.join(map(str, self.backends))}>"
