"""C{calm_collector}: has Python's garbage collector look at little, and seldom."""

from __future__ import annotations

import gc
from typing import Any

__all__ = ["calm_collector"]

_NEW = 10_000
"""The number of new objects at which the collector looks at them. The default, 700, is exceeded
when fifty clients come at a time."""
_YOUNG = 2
"""After more looks than this, it looks once more at what was new in them. The default is 10. With
that, this look stops all clients for a tenth of a second while thousands of backends are used for
the first time."""
_OLD = 20
"""After more of those looks than this, it looks at all objects."""


def calm_collector(reactor: Any) -> None:
    """From when a reactor has started, leave out of each collection what is there by then.

    That is most of what there ever is: modules, classes and the configuration. To look at all of it
    again and again takes a twentieth of the time that a client costs, and stops all others for tens
    of milliseconds. Clients and connections leave nothing to be collected. Of the first
    configuration, a reload may leave something that stays.
    """
    reactor.addSystemEventTrigger("after", "startup", _calm)


def _calm() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW, _YOUNG, _OLD)
