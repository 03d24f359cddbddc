"""C{after_fork}: tells objects with sockets that the process is now a forked child.

Its state is the registered objects, by C{id} and weakly referenced; C{after_fork} adds to them.
There is one state for the whole process, because C{os.register_at_fork} cannot be undone.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakValueDictionary

from twisted.logger import Logger

__all__ = ["Forkable", "after_fork"]

_log = Logger()


class Forkable(Protocol):
    """An object with something that a parent process and its child must not both use."""

    def forked(self) -> None:
        """The process is a child that has just been forked: do not touch what the parent uses.

        It must be fast: it is also called in children that soon run another program, as
        C{spawnProcess} makes them.
        """


_registered: WeakValueDictionary[int, Forkable] = WeakValueDictionary()


def after_fork(thing: Forkable) -> None:
    """Call C{thing.forked()} in every child that is forked from now on, and in its children.

    The call comes before C{os.fork} returns in the child. On systems without fork this function
    does nothing.

    @param thing: weakly referenced. If its C{forked} raises, the exception is logged.
    """
    _registered[id(thing)] = thing


def _forked() -> None:
    for thing in tuple(_registered.values()):
        try:
            thing.forked()
        except Exception:
            _log.failure("{thing!r} raised in forked()", thing=thing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
