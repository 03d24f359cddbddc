"""The rig for shared connections: a C{SharedManager} on a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus import ISlots, Lease, SharedManager
from kolus.testing import result_of
from tests.rigs.pools import Managed

__all__ = ["Hears", "Multiplexed", "Sharing"]


class Hears(Protocol):
    """Records its events.

    @ivar heard: the bytes received.
    @ivar losses: the reasons of all calls of C{connectionLost}.
    """

    def __init__(self) -> None:
        self.heard = b""
        self.losses: list[Failure] = []

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.losses.append(reason)


@implementer(ISlots)
class Multiplexed(Hears):
    """Knows how many leases it can carry, and reports changes."""

    first: Any = 2

    def __init__(self) -> None:
        super().__init__()
        self.slots = self.first
        self._changed: Callable[[], object] = lambda: None

    def watch_slots(self, changed: Callable[[], object]) -> None:
        self._changed = changed

    def change(self, slots: Any) -> None:
        self.slots = slots
        self._changed()


class Sharing(Managed):
    """A C{SharedManager} for the ident C{"us"}; by default two connections of three slots.

    @ivar protocols: all that were made.
    """

    kind = SharedManager
    defaults: ClassVar[dict[str, Any]] = {"limit": 2, "slots": 3}

    def __init__(self, protocol: Any = Hears, **settings: Any) -> None:
        self.protocols: list[Any] = []

        def build() -> Any:
            self.protocols.append(protocol())
            return self.protocols[-1]

        super().__init__(build, **settings)

    def ask(self, timeout: float | None = None, owner: Any = None) -> Deferred[Lease[Any]]:
        return self.manager.connect("us", timeout, owner)

    def lease(self, owner: Any = None) -> Lease[Any]:
        return result_of(self.ask(owner=owner))

    def take(self, count: int) -> list[Lease[Any]]:
        return [self.lease() for _ in range(count)]

    def numbers(self) -> tuple[int | None, int, int, int | None, int]:
        """Idle, leased, connecting, unused, waiting; and they have to add up to the limit."""
        status = self.manager.status()
        assert status.idle is not None
        assert status.unused is not None
        sum_ = status.idle + status.leased + status.connecting + status.unused
        closing = len(self.manager.connections.closing)
        assert sum_ == status.limit or closing, f"{sum_} of {status}"
        return (status.idle, status.leased, status.connecting, status.unused, status.waiting)

    def end(self) -> None:
        """Close, and check that nothing is left behind."""
        closed = self.manager.close(0)
        self.clock.pump([0, 0, 60, 0])
        result_of(closed)
        assert not self.fake.connections
        assert not self.clock.getDelayedCalls()
        counters = self.manager.counters
        settled = counters.releases + counters.finishes + counters.forgotten
        assert counters.leases == settled
        assert counters.connects == counters.closes
