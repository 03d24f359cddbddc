"""C{SessionTimes}: ends sessions that are idle, half closed or simply old.

Its state: for each session when it began, the bytes that it had moved when it was looked at last,
when that was different, and whose turn it was then; and the timers of the two rounds. No time is
noted while bytes move: that would cost more than moving them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kolus.support import steady
from kolus.tunnel.session import Session
from kolus.tunnel.settings import ListenerSettings

__all__ = ["REASONS", "SessionTimes"]

REASONS = ("client_timeout", "backend_timeout", "half_closed_timeout", "session_limit")
"""Why a session was ended; the settings of these names."""

_LOOKS = 20
_LOOKS_AT_HALVES = 40
_LEAST, _MOST = 0.05, 60.0


@dataclass(slots=True)
class _Watched:
    """What is known of a session."""

    began: float
    since: float
    sent: int = 0
    received: int = 0
    limit: str = "client_timeout"


class SessionTimes:
    """Watches the sessions of a listener.

    A session is ended between its limit and a tenth after it; a half-closed one within a
    twentieth. Whose turn it is decides which limit an idle session has: that of the backend if the
    client has sent the last bytes, and that of the client if the backend has, or if none have come.
    """

    def __init__(
        self,
        clock: IReactorTime,
        settings: ListenerSettings,
        end: Callable[[Any, str], object],
    ) -> None:
        """
        @param end: ends a session; it gets one of C{REASONS}, too. It is called once.
        """
        self._clock = steady(clock)
        self._end = end
        self._sessions: dict[Session, _Watched] = {}
        self._halves: dict[Session, _Watched] = {}
        self._timer: IDelayedCall | None = None
        self._half_timer: IDelayedCall | None = None
        self._follow(settings)

    def change(self, settings: ListenerSettings) -> None:
        """Apply other settings, also to the sessions that have begun."""
        self._follow(settings)
        for timer in (self._timer, self._half_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._half_timer = None
        if self._sessions and self._period < math.inf:
            self._timer = self._clock.callLater(self._period, self._look)
        if self._halves and self._half_period < math.inf:
            self._half_timer = self._clock.callLater(self._half_period, self._look_at_halves)

    def _follow(self, settings: ListenerSettings) -> None:
        limits = {name: getattr(settings, name) for name in REASONS}
        self._limits = {name: math.inf if each is None else each for name, each in limits.items()}
        client, backend, half, age = self._limits.values()
        self._period = _period(min(client, backend, age), _LOOKS)
        self._half_period = _period(half, _LOOKS_AT_HALVES)

    def begun(self, session: Session) -> None:
        """Watch a session."""
        now = self._clock.seconds()
        self._sessions[session] = _Watched(now, now)
        if self._timer is None and self._period < math.inf:
            self._timer = self._clock.callLater(self._period, self._look)

    def half_closed(self, session: Session) -> None:
        """One side of a session has ended its direction."""
        watched = self._sessions.get(session)
        if watched is None or session in self._halves or self._half_period == math.inf:
            return
        watched.since = self._clock.seconds()
        self._halves[session] = watched
        if self._half_timer is None:
            self._half_timer = self._clock.callLater(self._half_period, self._look_at_halves)

    def ended(self, session: Session) -> None:
        """A session has ended."""
        # The timers go on: to set and cancel them for each of many short sessions would cost more.
        self._sessions.pop(session, None)
        self._halves.pop(session, None)

    def stop(self) -> None:
        """No session is left, and none will begin."""
        for timer in (self._timer, self._half_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._half_timer = None

    def _look(self) -> None:
        self._timer = None
        if self._sessions:
            self._timer = self._clock.callLater(self._period, self._look)
        now, limits = self._clock.seconds(), self._limits
        for session, watched in tuple(self._sessions.items()):
            self._note(session, watched)
            if now - watched.began >= limits["session_limit"]:
                self._stop(session, "session_limit")
            elif now - watched.since >= limits[watched.limit]:
                self._stop(session, watched.limit)

    def _look_at_halves(self) -> None:
        self._half_timer = None
        if self._halves:
            self._half_timer = self._clock.callLater(self._half_period, self._look_at_halves)
        now, limit = self._clock.seconds(), self._limits["half_closed_timeout"]
        for session, watched in tuple(self._halves.items()):
            self._note(session, watched)
            if now - watched.since >= limit:
                self._stop(session, "half_closed_timeout")

    def _stop(self, session: Session, reason: str) -> None:
        self.ended(session)
        self._end(session, reason)

    def _note(self, session: Session, watched: _Watched) -> None:
        """Note what has moved since the last look."""
        sent, received = session.sent, session.received
        if sent != watched.sent or received != watched.received:
            watched.sent, watched.received = sent, received
            watched.since = self._clock.seconds()
            watched.limit = "backend_timeout" if session.is_backends_turn else "client_timeout"


def _period(limit: float, looks: int) -> float:
    return limit if limit == math.inf else min(_MOST, max(_LEAST, limit / looks))
