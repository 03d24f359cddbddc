"""C{twistd kolus --demo}: shows a pool with three backends, all inside one process.

The state is in C{Demo}: the listening ports, the pool, one C{_Tally} for each backend, and counts.
The demo's clients change the counts; C{Demo} prints them.
"""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from kolus.backend import Backend
from kolus.errors import KolusError
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.status import Status

__all__ = ["BACKENDS", "CLIENTS", "Demo"]

_log = Logger()

BACKENDS = {"fast": 0.005, "steady": 0.02, "slow": 0.05}
"""The name of each backend, and the seconds that it takes to answer."""
CLIENTS = 24
"""Number of clients; each makes one request after the other."""

_IDENT = "demo"
_LIMIT = 4
_THINK_TIME = 0.01
_ANSWER_TIMEOUT = 30.0
_MOST_BYTES = 4096


class Demo(Service):
    """Runs backends and clients, prints a table each second and a summary, and stops."""

    def __init__(
        self,
        reactor: Any,
        seconds: float,
        done: Callable[[bool], object],
        write: Callable[[str], object],
    ) -> None:
        """
        @param seconds: how long the clients make requests.
        @param done: called at the end, unless the service was stopped before. Its argument says
            whether all answers were right and the sums add up.
        @param write: prints lines.
        """
        self._reactor = reactor
        self._seconds = seconds
        self._done = done
        self._write = write
        self._ports: list[IListeningPort] = []
        self._tallies: dict[Backend, _Tally] = {}
        self._timer: Deferred[None] | None = None
        self._ended: Deferred[None] | None = None
        self._time_is_up = False
        self._shown = self._began = 0.0
        self.requests = self.errors = self.wrong = self.echoed = 0
        # Long time-outs: a slow machine then shows long waits instead of errors.
        policy = Policy(limit=_LIMIT, acquire_timeout=60.0, connect_timeout=30.0)
        self._pool = Pool(reactor, _Client, policy=policy)

    def startService(self) -> None:
        """Start; the demo ends by itself."""
        super().startService()  # type: ignore[no-untyped-call]
        self._ended = Deferred.fromCoroutine(self._run())

    def stopService(self) -> Deferred[None] | None:
        """Stop early, with the summary.

        @return: fires with C{None} when everything is closed.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._timer is not None:
            self._timer.cancel()
        return self._ended

    async def _run(self) -> None:
        succeeded = False
        try:
            await self._listen()
            await self._load()
            await self._close()
            succeeded = self._summarize()
        except Exception:
            _log.failure("the demo failed")
        if self.running:
            self._done(succeeded)

    async def _listen(self) -> None:
        for name, delay in BACKENDS.items():
            endpoint = TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1")
            port = await endpoint.listen(_EchoFactory(self._reactor, delay))
            self._ports.append(port)
            address: Any = port.getHost()
            backend = Backend(f"tcp:{address.host}:{address.port}", name=name)
            self._tallies[backend] = _Tally()

    async def _load(self) -> None:
        """Run the clients until the time is up, and wait for their last requests."""
        self._began = self._shown = self._reactor.seconds()
        clients = gatherResults(
            [Deferred.fromCoroutine(self._ask(number)) for number in range(CLIENTS)]
        )
        table = LoopingCall(self._show)
        table.clock = self._reactor
        table.start(1.0, now=False)
        self._timer = deferLater(self._reactor, self._seconds)
        try:
            await self._timer
        except CancelledError:
            pass  # stopped early
        finally:
            self._timer = None
            self._time_is_up = True
        await clients
        if self._reactor.seconds() - self._shown >= 0.5:
            self._show()
        table.stop()

    async def _ask(self, number: int) -> None:
        """One client: get a lease, use it, settle it, pause, and repeat."""
        rng = random.Random(number)
        while not self._time_is_up:
            self.requests += 1
            asked = self._reactor.seconds()
            try:
                lease = await self._pool.select(_IDENT, self._tallies)
            except KolusError:
                self.errors += 1
            else:
                self._tallies[lease.backend].count(self._reactor.seconds() - asked)
                question = rng.randbytes(rng.randrange(1, _MOST_BYTES))
                try:
                    async with lease:
                        await lease.protocol.ask(question, self._reactor)
                    self.echoed += len(question)
                except Exception:
                    self.wrong += 1
                    _log.failure("{backend} did not answer as it should", backend=lease.backend)
            await deferLater(self._reactor, rng.expovariate(1 / _THINK_TIME))

    async def _close(self) -> None:
        await self._pool.close(_ANSWER_TIMEOUT)
        for port in self._ports:
            closed = port.stopListening()
            if closed is not None:
                await closed

    def _show(self) -> None:
        now = self._reactor.seconds()
        passed = max(now - self._shown, 1e-6)
        self._shown = now
        lines = [
            f"{now - self._began:6.1f} s  {'backend':8}{'idle':>6}{'leased':>8}{'connecting':>12}"
            f"{'waiting':>9}{'leases/s':>10}{'p50 ms':>9}{'p99 ms':>9}"
        ]
        lines += [
            _row(status, self._tallies[status.backend], passed)
            for status in self._pool.status(self._tallies)
        ]
        self._write("\n".join(lines))

    def _summarize(self) -> bool:
        leases = sum(tally.leases for tally in self._tallies.values())
        everything = _Waits()
        lines = ["", f"{'backend':10}{'leases':>8}{'share':>8}{'p50 ms':>9}{'p99 ms':>9}"]
        for backend, tally in self._tallies.items():
            everything.update(tally.waits)
            lines.append(_total_row(str(backend), tally.leases, leases, tally.waits))
        lines.append(_total_row("total", leases, leases, everything))
        lines.append(
            f"{self.requests} requests = {leases} leases + {self.errors} errors; "
            f"{self.echoed} bytes came back as they were sent, {self.wrong} answers were wrong"
        )
        self._write("\n".join(lines))
        adds_up = self.requests == leases + self.errors and leases == self._pool.counters().leases
        return leases > 0 and self.wrong == 0 and adds_up


class _Waits(Counter[int]):
    """A histogram of the waits for a lease, in steps of 2 %, from one microsecond on."""

    def add(self, seconds: float) -> None:
        self[math.ceil(math.log(max(seconds, 1e-6) * 1e6, 1.02))] += 1

    def quantile(self, share: float) -> str:
        """A quantile of the waits as text, in ms; "-" if there are none.

        @param share: from 0 to 1: 0.5 is the median.
        """
        left = share * self.total()
        for step in sorted(self):
            left -= self[step]
            if left <= 0:
                return f"{1.02**step / 1000:.2f}"
        return "-"


class _Tally:
    """The leases of one backend: all of them, and those since the last table."""

    def __init__(self) -> None:
        self.leases = 0
        self.waits = _Waits()
        self.recent = _Waits()

    def count(self, waited: float) -> None:
        self.leases += 1
        self.waits.add(waited)
        self.recent.add(waited)


class _Client(Protocol):
    """The client's side: sends bytes, and expects the same bytes back."""

    _question: bytes = b""
    _answer = b""
    _waiter: Deferred[None] | None = None

    def ask(self, question: bytes, clock: Any) -> Deferred[None]:
        """
        @return: fires when the same bytes have come back. Fails with C{ValueError} if other bytes
            have, with C{TimeoutError}, or with the reason of a lost connection.
        """
        if self._waiter is not None:
            return fail(RuntimeError("the last request has not been answered"))
        self._question = question
        self._answer = b""
        self._waiter = waiter = Deferred[None]()
        waiter.addTimeout(_ANSWER_TIMEOUT, clock)
        assert self.transport is not None
        self.transport.write(question)
        return waiter

    def dataReceived(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None:
            return
        self._answer += data
        if self._answer == self._question:
            self._waiter = None
            waiter.callback(None)
        elif not self._question.startswith(self._answer):
            self._waiter = None
            waiter.errback(ValueError("the answer differs from the request"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.errback(reason)


class _Echo(Protocol):
    """The backend's side: sends all bytes back after a delay."""

    def __init__(self, clock: Any, delay: float) -> None:
        self._clock = clock
        self._delay = delay
        self._waiting: deque[bytes] = deque()
        self._calls: deque[IDelayedCall] = deque()

    def dataReceived(self, data: bytes) -> None:
        self._waiting.append(data)
        self._calls.append(self._clock.callLater(self._delay, self._answer))

    def _answer(self) -> None:
        self._calls.popleft()
        assert self.transport is not None
        self.transport.write(self._waiting.popleft())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        while self._calls:
            self._calls.pop().cancel()


class _EchoFactory(Factory):
    noisy = False

    def __init__(self, clock: Any, delay: float) -> None:
        self._clock = clock
        self._delay = delay

    def buildProtocol(self, addr: object) -> _Echo:
        return _Echo(self._clock, self._delay)


def _row(status: Status, tally: _Tally, seconds: float) -> str:
    recent, tally.recent = tally.recent, _Waits()
    return (
        f"{'':10}{status.backend!s:8}{status.idle or 0:6}{status.leased:8}{status.connecting:12}"
        f"{status.waiting:9}{recent.total() / seconds:10.0f}"
        f"{recent.quantile(0.5):>9}{recent.quantile(0.99):>9}"
    )


def _total_row(name: str, leases: int, total: int, waits: _Waits) -> str:
    share = leases / total if total else 0.0
    return f"{name:10}{leases:8}{share:8.1%}{waits.quantile(0.5):>9}{waits.quantile(0.99):>9}"
