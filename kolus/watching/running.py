"""Tells that a service stops or starts by its attribute C{running}, which both methods set.

A caller may have taken C{stopService} as a bound method before anybody could replace it: twistd
does so with an application's. Then the attribute alone tells. To hear of it, the service gets a
class of its own, which differs from its class in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

__all__ = ["watch_running"]

_TELL = "_kolus_tell_running"  # where a service carries whom to tell
_kinds: WeakValueDictionary[type, type] = WeakValueDictionary()
"""The class that tells, by the class that it stands for."""


def watch_running(service: Any, tell: Callable[[bool], object]) -> None:
    """Tell, whenever C{running} is set, whether it is true. The first call counts. A service whose
    class cannot be changed is left as it is."""
    if _TELL in vars(service):
        return
    kind = type(service)
    telling = _kinds.get(kind) or _kinds.setdefault(kind, _telling(kind))
    try:
        service.__class__ = telling
    except TypeError:  # it has slots, or is not written in Python
        return
    vars(service)[_TELL] = tell


def _telling(kind: type) -> type:
    def get(service: Any) -> object:
        at_first = getattr(super(telling, service), "running", False)
        return vars(service).get("running", at_first)

    def put(service: Any, running: object) -> None:
        vars(service)["running"] = running
        vars(service)[_TELL](bool(running))

    parts = {"__module__": kind.__module__, "__doc__": kind.__doc__, "running": property(get, put)}
    telling = type(kind.__name__, (kind,), parts | {"__qualname__": kind.__qualname__})
    return telling
