"""C{Loop}: watches the sockets of the front by an epoll of its own.

That epoll's descriptor is one reader of the reactor, so any reactor that has readers will do. What
is watched here costs a fraction of what a reader of the reactor costs.

Its state is the epoll and who owns each descriptor in it; the buffer that all reads share; and
what is to be done at the end of the batch of events that is under way: sockets to be closed, and
calls to be made. C{add}, C{change} and C{remove} alone touch the epoll.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakValueDictionary

from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.support import steady
from kolus.tunnel.wires.descriptors import Descriptors
from kolus.tunnel.wires.pipes import Pipes

__all__ = ["Loop", "Watched", "loop_of"]

_log = Logger()
_loops: WeakValueDictionary[int, Loop] = WeakValueDictionary()
"""Of each reactor the one in use."""

_BUFFER = 256 * 1024
"""Bytes of one read. With a quarter of that, bulk costs 1.6 times the CPU."""

_MOST_EVENTS = 512
_ROUNDS = 4
"""So many batches of events are handled until the reactor has its turn. Each event moves at most a
buffer or a pipe of bytes."""


class Watched(Protocol):
    """Owns a descriptor in the loop."""

    def ready(self, events: int) -> None:
        """Something may be possible; it is possible, too, that nothing is."""

    def crashed(self, failure: Failure) -> None:
        """C{ready} has raised."""


@implementer(IReadDescriptor)
class Loop:
    """The sockets of a front and of its pools, in one reactor.

    @ivar buffer: what is read into; its content is anyone's after the call of C{ready}.
    @ivar view: the same, to be sliced.
    @ivar clock: the steady time of the reactor.
    @ivar pipes: empty pipes, for bulk.
    @ivar descriptors: how many clients may be accepted.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.clock = steady(reactor)
        self.buffer = bytearray(_BUFFER)
        self.view = memoryview(self.buffer)
        self.pipes = Pipes()
        self.descriptors = Descriptors()
        self._epoll: Any = None  # made when it is needed: a daemon forks first
        self._owners: dict[int, Watched] = {}
        self._is_busy = self._is_reader = False
        self._closing: list[socket.socket] = []
        self._calls: list[Callable[[], object]] = []
        self._later: IDelayedCall | None = None

    @staticmethod
    def suits(reactor: Any) -> bool:
        """Whether this platform has what it takes, and the reactor, too."""
        return hasattr(select, "epoll") and IReactorFDSet.providedBy(reactor)

    # Who is watched

    def add(self, descriptor: int, events: int, owner: Watched) -> None:
        """Watch a descriptor for events: C{IN}, C{OUT}, both, or none but C{BROKEN}."""
        if self._epoll is None:
            self._epoll = select.epoll()
        self._epoll.register(descriptor, events)
        self._owners[descriptor] = owner
        if not self._is_reader:
            self._is_reader = True
            self.reactor.addReader(self)

    def change(self, descriptor: int, events: int) -> None:
        """Watch it for other events."""
        self._epoll.modify(descriptor, events)

    def pass_on(self, descriptor: int, owner: Watched) -> None:
        """Another owner gets the events from now on."""
        self._owners[descriptor] = owner

    def remove(self, descriptor: int) -> None:
        """Watch it no more. This comes before it is closed."""
        del self._owners[descriptor]
        self._epoll.unregister(descriptor)
        if not (self._owners or self._is_busy):
            self._rest()

    # What is to be done later

    def close(self, sock: socket.socket) -> None:
        """Close a socket, at the end of the batch: a new one may have its number then."""
        if self._is_busy:
            self._closing.append(sock)
        else:
            sock.close()

    def soon(self, call: Callable[[], object]) -> None:
        """Make a call at the end of the batch, or in the reactor's next turn."""
        self._calls.append(call)
        if not self._is_busy and self._later is None:
            self._later = self.clock.callLater(0, self._come_later)

    def _come_later(self) -> None:
        self._later = None
        self._end_batch()

    def _end_batch(self) -> None:
        while self._closing or self._calls:  # a call may close further ones
            closing, self._closing = self._closing, []
            for sock in closing:
                sock.close()
            calls, self._calls = self._calls, []
            for call in calls:
                try:
                    call()
                except Exception:
                    _log.failure("a call at the end of a batch raised")

    # IReadDescriptor

    def fileno(self) -> int:
        return -1 if self._epoll is None else self._epoll.fileno()

    def doRead(self) -> None:
        """Handle what is ready, for a bounded time."""
        owners = self._owners
        poll = self._epoll.poll
        self._is_busy = True
        try:
            for _ in range(_ROUNDS):
                batch = poll(0, _MOST_EVENTS)
                for descriptor, events in batch:
                    owner = owners.get(descriptor)
                    if owner is not None:  # an event before this one may have ended it
                        try:
                            owner.ready(events)
                        except Exception:
                            self._crashed(descriptor, owner)
                self._end_batch()
                if not batch:
                    break
        finally:
            self._is_busy = False
        if not owners:
            self._rest()

    def _crashed(self, descriptor: int, owner: Watched) -> None:
        failure = Failure()
        _log.failure("a connection of the front failed", failure)
        try:
            owner.crashed(failure)
        except Exception:
            _log.failure("ending it failed, too")
        if self._owners.get(descriptor) is owner:
            self.remove(descriptor)

    def _rest(self) -> None:
        if self._is_reader:
            self._is_reader = False
            self.reactor.removeReader(self)

    def connectionLost(self, reason: Failure) -> None:
        """Called by a reactor that is stopped for good."""
        self._is_reader = False

    def logPrefix(self) -> str:
        return "kolus"


def loop_of(reactor: Any) -> Loop:
    """The loop that all fronts and pools of a reactor share. Keep it while it is used."""
    found = _loops.get(id(reactor))  # it refers to its reactor, whose id is thus still in use
    if found is None:
        found = _loops[id(reactor)] = Loop(reactor)
    return found
