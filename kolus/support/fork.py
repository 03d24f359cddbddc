"""C{after_fork}: what holds sockets learns that its process is now a forked child.

Its state is what has asked to be told, by identity and without keeping it alive: C{after_fork}
adds to it, and what nobody else refers to leaves it. It is one for the whole process, because
what is registered with C{os.register_at_fork} stays registered for ever.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakValueDictionary

from twisted.logger import Logger

__all__ = ["Forkable", "after_fork"]

_log = Logger()


class Forkable(Protocol):
    """What has something that a parent and its child must not both use."""

    def forked(self) -> None:
        """This process is a child that has just been forked: leave alone what is the parent's.

        It may be called in a child that is about to become another program, as C{spawnProcess}
        makes them, so it has to be quick.
        """


_told: WeakValueDictionary[int, Forkable] = WeakValueDictionary()


def after_fork(thing: Forkable) -> None:
    """From now on, call C{thing.forked()} in every forked child that has C{thing}.

    That is at once, before C{os.fork} returns there, and in the child's own children again.
    Where processes cannot fork it does nothing.

    @param thing: only weakly referred to. An exception of its C{forked} is logged.
    """
    _told[id(thing)] = thing


def _forked() -> None:
    for thing in tuple(_told.values()):
        try:
            thing.forked()
        except Exception:
            _log.failure("{thing!r} raised when it was told of a fork", thing=thing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
