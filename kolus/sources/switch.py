"""C{SourceSwitch}: a source whose lists come from another source, which may be replaced."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from kolus.interfaces import ISource
from kolus.sources.subscription import Listener

__all__ = ["SourceSwitch"]


@implementer(ISource)
class SourceSwitch:
    """Passes on the lists of one source at a time. Its listener has the last list until the next
    source has told one."""

    def __init__(self, source: Any) -> None:
        """
        @param source: the first C{ISource}.
        """
        self._source = source
        self._listener: Listener | None = None

    def start(self, listener: Listener) -> None:
        self._listener = listener
        self._source.start(listener)

    def stop(self) -> None:
        self._listener = None
        self._source.stop()

    def switch(self, source: Any) -> None:
        """Take the lists from another source from now on."""
        before, self._source = self._source, source
        if self._listener is not None:
            before.stop()
            source.start(self._listener)

    def __repr__(self) -> str:
        return f"<SourceSwitch to {self._source!r}>"
