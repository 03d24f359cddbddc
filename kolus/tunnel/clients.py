"""C{Clients}: the clients of a front as an operator sees them.

Its state is the clients that are not gone, by their numbers, and how long those that have ended
took. The front tells it of each client three times.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from twisted.internet.interfaces import IReactorTime

from kolus.lease import Lease
from kolus.support import LONG, Histogram
from kolus.tunnel.client import Client
from kolus.tunnel.end import End

__all__ = ["ClientStatus", "Clients"]


@dataclass(frozen=True, slots=True)
class ClientStatus:
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


class Clients:
    """Numbers the clients of a front, and finds them by their numbers.

    @ivar durations: seconds from the lease to the end, of the clients that had one.
    @ivar aborted: number of clients that C{abort} has aborted.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.durations = Histogram(LONG)
        self.aborted = 0
        self._clock = clock
        self._last = 0
        self._clients: dict[int, Client] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def add(self, client: Client) -> None:
        """A client asks for a lease."""
        self._last = client.number = self._last + 1
        client.since = self._clock.seconds()
        self._clients[client.number] = client

    def served(self, client: Client, lease: Lease[End]) -> None:
        """A client has a lease."""
        client.served_at, client.lease = self._clock.seconds(), lease

    def remove(self, client: Client) -> None:
        """A client is gone. It may be called twice."""
        gone = self._clients.pop(client.number, None)
        if gone is not None and client.served_at is not None:
            self.durations.add(self._clock.seconds() - client.served_at)

    def abort(self) -> None:
        """Abort the clients that are left."""
        self.aborted += len(self._clients)
        for client in tuple(self._clients.values()):
            client.give_up()

    def find(self, number: int) -> Client | None:
        """The client of a number; C{None} if it is gone."""
        return self._clients.get(number)

    def status(self, most: int) -> tuple[ClientStatus, ...]:
        """The clients, the oldest first, at most so many."""
        now = self._clock.seconds()
        return tuple([_status(client, now) for client in islice(self._clients.values(), most)])


def _status(client: Client, now: float) -> ClientStatus:
    served_at = client.served_at
    is_ending = client.gone or client.done
    return ClientStatus(
        number=client.number,
        address=str(client.info),
        state="ending" if is_ending else "waiting" if served_at is None else "served",
        age=now - client.since,
        waited=(now if served_at is None else served_at) - client.since,
        backend=None if client.lease is None else str(client.lease.backend),
    )
