"""C{Stepper}: runs psycopg's generators whenever their socket is ready.

psycopg writes what it does as generators, which yield what they wait for: that the socket can be
read, or written. Its state is the generator that runs, if one does, who waits for its end, and what
the reactor watches the socket for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg.errors import InternalError, _WaitTimeout
from psycopg.waiting import Ready, Wait
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.support import steady

__all__ = ["Stepper", "run_once"]

_NOTHING, _READ, _WRITE = 0, int(Wait.R), int(Wait.W)


@implementer(IReadWriteDescriptor)
class Stepper:
    """Runs one generator at a time.

    While none runs, the socket is watched for being readable, if there is C{at_rest}.
    """

    def __init__(
        self, reactor: Any, socket: int = -1, at_rest: Callable[[], object] | None = None
    ) -> None:
        """
        @param reactor: provides C{IReactorFDSet}.
        @param socket: the descriptor; below 0 if the generators yield pairs of it and what they
            wait for, because it may change.
        @param at_rest: called when there is something to read, and no generator runs.
        """
        self._reactor = reactor
        self._socket = socket
        self._moves = socket < 0
        self._at_rest = at_rest
        self._watched = _NOTHING
        self._steps: Any = None
        self._outcome: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None

    def run(self, steps: Any, wanted: Any, timeout: float | None = None) -> Deferred[Any]:
        """Run a generator to its end, after its first step.

        @param wanted: what it waits for.
        @return: fires with what it returns, fails with what it raises, and with psycopg's
            C{_WaitTimeout} after C{timeout} seconds. Cancelling it leaves the generator where it
            is, and nothing is read: run it on, or call C{rest}.
        """
        self._steps = steps
        outcome: Deferred[Any] = Deferred(self._cancelled)
        self._outcome = outcome
        if timeout is not None:
            self._timer = steady(self._reactor).callLater(timeout, self._timed_out)
        self._watch(wanted)
        return outcome

    def rest(self) -> None:
        """Watch the socket while no generator runs."""
        self._watch(_READ if self._at_rest is not None else _NOTHING)

    def stop(self, error: Exception) -> None:
        """Watch nothing any more, and fail what runs."""
        self._at_rest = None
        self._watch(_NOTHING)
        if self._outcome is not None:
            self._end(Failure(error))

    # Called by the reactor

    def fileno(self) -> int:
        return self._socket

    def logPrefix(self) -> str:
        return "psycopg"

    def doRead(self) -> None:
        self._ready(Ready.R)

    def doWrite(self) -> None:
        self._ready(Ready.W)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor watches the socket no more. Whoever reads from it finds out why."""
        self._watched = _NOTHING
        self._ready(Ready.R)

    # Steps

    def _ready(self, how: Ready) -> None:
        if self._outcome is None:
            if self._at_rest is not None:
                self._at_rest()
            return
        if self._moves:
            self._watch(_NOTHING)  # the next step may close the socket
        try:
            wanted = self._steps.send(how)
        except StopIteration as end:
            self._end(end.value)
        except Exception:
            self._end(Failure())
        else:
            self._watch(wanted)

    def _end(self, result: object) -> None:
        outcome = self._let_go()
        assert outcome is not None
        outcome.callback(result)
        if self._outcome is None:
            self.rest()

    def _let_go(self) -> Deferred[Any] | None:
        outcome, self._outcome, self._steps = self._outcome, None, None
        if self._timer is not None:
            if self._timer.active():
                self._timer.cancel()
            self._timer = None
        return outcome

    def _cancelled(self, outcome: Deferred[Any]) -> None:
        self._let_go()
        self._watch(_NOTHING)

    def _timed_out(self) -> None:
        self._end(Failure(_WaitTimeout("wait timeout expired")))

    def _watch(self, wanted: Any) -> None:
        if isinstance(wanted, tuple):
            self._socket, wanted = wanted
        elif wanted and self._socket < 0:
            raise InternalError(f"no socket to wait for: {wanted!r}")
        if wanted == self._watched:  # as for most queries
            return
        before, self._watched = self._watched, int(wanted)
        changed = before ^ self._watched
        for what, add, remove in (
            (_READ, self._reactor.addReader, self._reactor.removeReader),
            (_WRITE, self._reactor.addWriter, self._reactor.removeWriter),
        ):
            if changed & what:
                if self._watched & what:
                    add(self)
                else:
                    remove(self)


async def run_once(reactor: Any, steps: Any, timeout: float | None = None) -> Any:
    """Run a generator that has a socket of its own to its end, and close it, whatever happens."""
    running = Stepper(reactor).run(steps, next(steps), timeout)
    try:
        return await running
    except GeneratorExit:  # nobody runs this coroutine on; the reactor still watches the socket
        running.addErrback(lambda _: None)
        running.cancel()
        raise
    finally:
        steps.close()
