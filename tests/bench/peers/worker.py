"""One client in a process of its own: callers that call for a time, and what that took.

C{python -m tests.bench.peers.worker KIND CLIENT PORT CALLERS LIMIT} prints a line when it is ready.
For each number of seconds that it then reads, it makes a load, and prints a line of JSON. Between
loads it stands still, so that it costs the others nothing.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from tests.bench.peers import asyncio_calls, twisted_calls

READY = "ready"


class Load:
    """Counts what the callers do until the time is over."""

    def __init__(self, call: Callable[[], Awaitable[object]], seconds: float) -> None:
        self._call = call
        self._seconds = seconds
        self.calls = self.failures = 0
        self.longest = 0.0
        self.errors: dict[str, int] = {}

    def begin(self) -> None:
        self._cpu = _cpu()
        self._began = time.perf_counter()
        self._until = self._began + self._seconds

    async def caller(self, pause: Callable[[], Awaitable[object]]) -> None:
        """Call until the time is over, with a short pause after a failure."""
        while (now := time.perf_counter()) < self._until:
            try:
                await self._call()
                self.calls += 1
            except Exception as error:
                self.failures += 1
                name = type(error).__name__
                self.errors[name] = self.errors.get(name, 0) + 1
                await pause()
            self.longest = max(self.longest, time.perf_counter() - now)

    def told(self) -> str:
        seconds = time.perf_counter() - self._began
        return json.dumps(
            {
                "rate": self.calls / seconds,
                "cpu": 1e6 * (_cpu() - self._cpu) / max(1, self.calls),
                "longest": self.longest,
                "failures": self.failures,
                "errors": self.errors,
            }
        )


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def turns() -> Iterator[float]:
    """The seconds of each load, as they are asked for."""
    print(READY, flush=True)
    for line in iter(sys.stdin.readline, ""):
        yield float(line)


def run_twisted(make: Any, port: int, callers: int, limit: int) -> None:
    from twisted.internet.defer import Deferred, gatherResults
    from twisted.internet.task import deferLater, react

    async def main(reactor: Any) -> None:
        call, close = await make(reactor, port, limit)

        async def pause() -> None:
            await deferLater(reactor, 0.01)

        await call()
        for seconds in turns():
            load = Load(call, seconds)
            load.begin()
            all_ = [Deferred.fromCoroutine(load.caller(pause)) for _ in range(callers)]
            await gatherResults(all_)
            print(load.told(), flush=True)
        await close()

    react(main)


def run_asyncio(make: Any, port: int, callers: int, limit: int) -> None:
    async def main() -> None:
        call, close = await make(port, limit)
        await call()
        for seconds in turns():
            load = Load(call, seconds)
            load.begin()
            all_ = [load.caller(lambda: asyncio.sleep(0.01)) for _ in range(callers)]
            await asyncio.gather(*all_)
            print(load.told(), flush=True)
        await close()

    asyncio.run(main())


def main(kind: str, client: str, port: str, callers: str, limit: str) -> None:
    numbers = int(port), int(callers), int(limit)
    if (kind, client) in twisted_calls.CALLS:
        run_twisted(twisted_calls.CALLS[kind, client], *numbers)
    else:
        run_asyncio(asyncio_calls.CALLS[kind, client], *numbers)


if __name__ == "__main__":
    main(*sys.argv[1:])
