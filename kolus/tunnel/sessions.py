"""C{Sessions}: the clients of a front as an operator sees them.

Its state is the session of each client that is not gone, by its number, and how long those that
have ended took. The front tells it of each client three times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IReactorTime

from kolus.support import LONG, Histogram

__all__ = ["SessionStatus", "Sessions"]


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """A client at the time of the call.

    @ivar number: tells it from all other clients of the front.
    @ivar address: its address, or that of the PROXY header.
    @ivar state: C{waiting} for a lease, C{served}, or C{ending}: it is gone, or has got no lease.
    @ivar age: seconds since it came.
    @ivar waited: seconds that it waited, so far if it waits.
    @ivar backend: the backend that serves it.
    """

    number: int
    address: str
    state: str
    age: float
    waited: float
    backend: str | None


@dataclass(slots=True)
class _Session:
    number: int
    since: float
    served_at: float | None = None
    lease: Any = None


class Sessions:
    """
    @ivar durations: seconds from the lease to the end, of the clients that had one.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.durations = Histogram(LONG)
        self._clock = clock
        self._last = 0
        self._sessions: dict[Any, _Session] = {}

    def begins(self, client: Any) -> None:
        """A client asks for a lease."""
        self._last += 1
        self._sessions[client] = _Session(self._last, self._clock.seconds())

    def served(self, client: Any, lease: Any) -> None:
        """A client has a lease."""
        session = self._sessions[client]
        session.served_at, session.lease = self._clock.seconds(), lease

    def ends(self, client: Any) -> None:
        """A client is gone."""
        session = self._sessions.pop(client)
        if session.served_at is not None:
            self.durations.add(self._clock.seconds() - session.served_at)

    def find(self, number: int) -> Any:
        """The client of a number; C{None} if it is gone."""
        return next((it for it, its in self._sessions.items() if its.number == number), None)

    def status(self, most: int) -> tuple[SessionStatus, ...]:
        """The clients, the oldest first, at most so many."""
        now = self._clock.seconds()
        clients = list(self._sessions.items())[:most]
        return tuple([_status(client, session, now) for client, session in clients])


def _status(client: Any, session: _Session, now: float) -> SessionStatus:
    served_at = session.served_at
    is_ending = client.gone or client.done
    return SessionStatus(
        number=session.number,
        address=str(client.visitor),
        state="ending" if is_ending else "waiting" if served_at is None else "served",
        age=now - session.since,
        waited=(now if served_at is None else served_at) - session.since,
        backend=None if session.lease is None else str(session.lease.backend),
    )
