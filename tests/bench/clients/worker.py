"""One client in a process of its own: callers that call for a time, and what that took.

C{python -m tests.bench.clients.worker KIND CLIENT PORT CALLERS LIMIT SECONDS} prints a line when
the load begins, and at its end one of JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tests.bench.clients import asyncio_calls, twisted_calls

BEGUN = "begun"


class Load:
    """Counts what the callers do until the time is over."""

    def __init__(self, call: Callable[[], Awaitable[object]], seconds: float) -> None:
        self._call = call
        self._seconds = seconds
        self.calls = self.failures = 0
        self.longest = 0.0
        self.errors: dict[str, int] = {}

    def begin(self) -> None:
        print(BEGUN, flush=True)
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


def run_twisted(make: Any, port: int, callers: int, limit: int, seconds: float) -> None:
    from twisted.internet.defer import Deferred, gatherResults
    from twisted.internet.task import deferLater, react

    async def main(reactor: Any) -> None:
        call, close = await make(reactor, port, limit)
        await call()
        load = Load(call, seconds)
        load.begin()

        async def pause() -> None:
            await deferLater(reactor, 0.01)

        await gatherResults([Deferred.fromCoroutine(load.caller(pause)) for _ in range(callers)])
        print(load.told(), flush=True)
        await close()

    react(main)


def run_asyncio(make: Any, port: int, callers: int, limit: int, seconds: float) -> None:
    async def main() -> None:
        call, close = await make(port, limit)
        await call()
        load = Load(call, seconds)
        load.begin()
        await asyncio.gather(*(load.caller(lambda: asyncio.sleep(0.01)) for _ in range(callers)))
        print(load.told(), flush=True)
        await close()

    asyncio.run(main())


def main(kind: str, client: str, port: str, callers: str, limit: str, seconds: str) -> None:
    numbers = int(port), int(callers), int(limit), float(seconds)
    if (kind, client) in twisted_calls.CALLS:
        run_twisted(twisted_calls.CALLS[kind, client], *numbers)
    else:
        run_asyncio(asyncio_calls.CALLS[kind, client], *numbers)


if __name__ == "__main__":
    main(*sys.argv[1:])
