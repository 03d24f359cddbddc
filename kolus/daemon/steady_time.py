"""C{use_steady_time}: has a reactor tell a time that nobody can set."""

from __future__ import annotations

from typing import Any

from kolus.support import steady_seconds

__all__ = ["use_steady_time"]


def use_steady_time(reactor: Any) -> None:
    """Replace a reactor's clock, so that all of its timers go on when the time of day is set.

    Twisted's reactors compare C{reactor.seconds()} with the times of their calls, which they noted
    by it. So it may be replaced as long as they have noted none. It is left alone if the reactor
    runs, or has calls to make.

    After that C{reactor.seconds()} is not the time of day, which a few parts of Twisted take it
    for: the access log of C{twisted.web}, for one.
    """
    if not (reactor.running or reactor.getDelayedCalls()):
        reactor.seconds = steady_seconds
