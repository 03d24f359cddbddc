"""C{twistd kolus --demo}: shows a pool with three backends, all inside one process.

In the middle one backend is killed and comes back, and another is slow for a while. The state is in
C{Demo}: the backends, the pool, one C{Tally} for each backend, and counts. The demo's clients
change the counts; C{Demo} prints them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    textFileLogObserver,
)
from twisted.python.components import Componentized

from kolus.backend import Backend
from kolus.backoff import Backoff
from kolus.daemon.demo.backend import ANSWER_TIMEOUT, DemoBackend, DemoClient
from kolus.daemon.demo.table import Tally, summary, table
from kolus.errors import KolusError
from kolus.events import Admitted, Ejected, Event
from kolus.group import Group
from kolus.health import Ejection
from kolus.policy import Policy
from kolus.pool import Pool

__all__ = ["BACKENDS", "CLIENTS", "Demo"]

_log = Logger()

BACKENDS = ("one", "two", "three")
CLIENTS = 24
"""Number of clients; each makes one request after the other."""

_IDENT = "demo"
_LIMIT = 4
_DELAY, _SLOW_DELAY = 0.01, 0.1
_THINK_TIME = 0.05
_MOST_BYTES = 4096


class Demo(Service):
    """Runs backends and clients, prints a table each second and a summary, and stops."""

    def __init__(
        self,
        reactor: Any,
        seconds: float,
        done: Callable[[bool], object],
        write: Callable[[str], object],
        *,
        on_terminal: bool = False,
    ) -> None:
        """
        @param seconds: how long the clients make requests.
        @param done: called at the end, unless the service was stopped before. Its argument says
            whether all answers were right, none failed, and the sums add up.
        @param write: prints lines.
        @param on_terminal: whether tables have colours, and each takes the place of the last one.
        """
        self._reactor = reactor
        self._seconds = seconds
        self._done = done
        self._write = write
        self._on_terminal = on_terminal
        self._backends = [DemoBackend(reactor, name, _DELAY) for name in BACKENDS]
        self._tallies: dict[Backend, Tally] = {}
        self._timer: Deferred[None] | None = None
        self._ended: Deferred[None] | None = None
        self._time_is_up = False
        self._shown = self._began = 0.0
        self._drawn = 0
        self.requests = self.answered = self.failed = self.wrong = self.repeated = self.echoed = 0
        # Long time-outs: a slow machine then shows long waits instead of errors.
        policy = Policy(
            limit=_LIMIT,
            acquire_timeout=60.0,
            connect_timeout=30.0,
            backoff=Backoff(most=0.5),
            ejection=Ejection(failures=3, first=1.0, most=1.0),
        )
        self._pool = Pool(reactor, DemoClient, policy=policy, observers=[self._happened])
        self._ejected: set[Backend] = set()
        self._group: Group[DemoClient] | None = None

    def setServiceParent(self, parent: Any) -> None:
        """Let twistd log errors only: the demo itself tells what happens."""
        if isinstance(parent, Componentized):
            log = textFileLogObserver(sys.stdout)
            errors = FilteringLogObserver(log, [LogLevelFilterPredicate(LogLevel.error)])
            parent.setComponent(ILogObserver, errors)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

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
            for each in self._backends:
                await each.start()
                self._tallies[each.backend] = Tally()
            self._group = self._pool.group(list(self._tallies), name="demo")
            await self._load()
            await self._pool.close(ANSWER_TIMEOUT)
            for each in self._backends:
                await each.stop()
            succeeded = self._summarize()
        except Exception:
            _log.failure("the demo failed")
        if self.running:
            self._done(succeeded)

    def _happened(self, event: Event) -> None:
        """Tell when a backend is ejected, once, and when it is admitted again."""
        if isinstance(event, Ejected) and event.backend not in self._ejected:
            self._ejected.add(event.backend)
            self._tallies[event.backend].ejected += 1
            self._tell(f"the pool ejects {event.backend}: {event.reason.partition(', the')[0]}")
        elif isinstance(event, Admitted):
            self._ejected.discard(event.backend)
            self._tallies[event.backend].admitted += 1
            self._tell(f"the pool admits {event.backend} again: {event.reason}")

    async def _load(self) -> None:
        """Run the clients until the time is up, and wait for their last requests."""
        self._began = self._shown = self._reactor.seconds()
        clients = gatherResults(
            [Deferred.fromCoroutine(self._client(number)) for number in range(CLIENTS)]
        )
        shows = LoopingCall(self._show)
        shows.clock = self._reactor
        shows.start(1.0, now=False)
        story = [
            self._reactor.callLater(share * self._seconds, self._change, text, change)
            for share, text, change in self._story()
        ]
        self._timer = deferLater(self._reactor, self._seconds)
        try:
            await self._timer
        except CancelledError:
            pass  # stopped early
        finally:
            self._timer = None
            self._time_is_up = True
            for each in story:
                if each.active():
                    each.cancel()
        await clients
        if self._reactor.seconds() - self._shown >= 0.5:
            self._show()
        shows.stop()

    def _story(self) -> list[tuple[float, str, Callable[[], object]]]:
        """What happens: after which share of the time, in words, and how."""
        _, two, three = self._backends

        def run(coroutine: Callable[[], Any]) -> Callable[[], object]:
            return lambda: Deferred.fromCoroutine(coroutine())

        def delay(seconds: float) -> Callable[[], object]:
            return lambda: setattr(three, "delay", seconds)

        return [
            (0.3, "two is killed", run(two.die)),
            (0.45, "three takes ten times as long", delay(_SLOW_DELAY)),
            (0.6, "two is started again", run(two.start)),
            (0.75, "three is as fast as before", delay(_DELAY)),
        ]

    def _change(self, text: str, change: Callable[[], object]) -> None:
        self._tell(text)
        change()

    def _tell(self, text: str) -> None:
        at = self._reactor.seconds() - self._began
        bold, plain = ("\x1b[1m", "\x1b[0m") if self._on_terminal else ("", "")
        self._write(f"{self._back()}{at:5.1f} s  {bold}** {text}{plain}")
        self._drawn = 0

    def _back(self) -> str:
        """On a terminal: to the beginning of the last table, and nothing is left of it."""
        drawn = self._drawn if self._on_terminal else 0
        return f"\x1b[{drawn}F\x1b[J" if drawn else ""

    async def _client(self, number: int) -> None:
        """Make one request after the other."""
        rng = random.Random(number)
        while not self._time_is_up:
            self.requests += 1
            question = rng.randbytes(rng.randrange(1, _MOST_BYTES))
            try:
                while not await self._is_answered(question):
                    self.repeated += 1
                self.answered += 1
                self.echoed += len(question)
            except KolusError:
                self.failed += 1
            except Exception:
                self.wrong += 1
                self._drawn = 0  # the log writes below the table
                _log.failure("a backend did not answer as it should")
            await deferLater(self._reactor, rng.expovariate(1 / _THINK_TIME))

    async def _is_answered(self, question: bytes) -> bool:
        """Get a lease, use it and settle it.

        @return: C{False} if the connection was lost, so that the request has to be repeated.
        """
        assert self._group is not None
        asked = self._reactor.seconds()
        lease = await self._group.connect(_IDENT)
        tally, began = self._tallies[lease.backend], self._reactor.seconds()
        tally.leased(began - asked)
        try:
            async with lease:
                await lease.protocol.ask(question, self._reactor)
        except ConnectionClosed:
            return False
        finally:
            tally.settled(self._reactor.seconds() - began)
        return True

    def _show(self) -> None:
        assert self._group is not None
        now = self._reactor.seconds()
        passed = max(now - self._shown, 1e-6)
        self._shown = now
        status = self._group.status()
        lines = table(now - self._began, passed, status, self._tallies, self._on_terminal)
        self._write(self._back() + "\n".join(lines))
        self._drawn = len(lines)

    def _summarize(self) -> bool:
        lines = summary(self._tallies)
        lines += [
            f"{self.requests} requests = {self.answered} answered + {self.failed} failed "
            f"+ {self.wrong} wrong",
            f"{self.repeated} repeated, as their backend was killed under them",
            f"{self.echoed} bytes came back as they were sent, {self.wrong} answers were wrong",
        ]
        self._write("\n".join(lines))
        leases = sum(tally.leases for tally in self._tallies.values())
        adds_up = (
            self.requests == self.answered + self.failed + self.wrong
            and leases == self._pool.counters().leases
            and leases == self.requests - self.failed + self.repeated
        )
        return leases > 0 and self.wrong == 0 and self.failed == 0 and adds_up
