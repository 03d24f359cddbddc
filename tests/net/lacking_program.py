"""A program that runs out of something, whose pool connects meanwhile.

It is called with what it lacks and the kind of endpoint, and prints a line: what the pool told of
it, and whether the backend was used again when the machine had enough.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet import endpoints, reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.protocol import Factory, Protocol

from kolus import Backend, Policy, Pool
from kolus.errors import KolusError, LeaseTimeout, MachineFault
from kolus.events import ConnectFailure, Ejected, Event
from kolus.health import Ejection
from tests.net.deadline import Deadline
from tests.rigs.patience import PATIENCE

clock: Any = reactor


class Descriptors:
    """All descriptors of this process are in use."""

    def __enter__(self) -> None:
        self._held: list[int] = []
        most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, most[1]))
        try:
            while True:
                self._held.append(os.dup(0))
        except OSError:
            pass

    def __exit__(self, *_: object) -> None:
        for each in self._held:
            os.close(each)


class Threads:
    """No thread can be started."""

    def __enter__(self) -> None:
        self._start = threading.Thread.start

        def start(thread: object) -> None:
            raise RuntimeError("can't start new thread")

        threading.Thread.start = start  # type: ignore[method-assign,assignment]

    def __exit__(self, *_: object) -> None:
        threading.Thread.start = self._start  # type: ignore[method-assign]


class IdleThreads:
    """All threads of the reactor are busy."""

    def __enter__(self) -> None:
        for _ in range(30):
            clock.callInThread(self._block, ended := threading.Event())
            self._ended = [*getattr(self, "_ended", []), ended]

    def _block(self, ended: threading.Event) -> None:
        ended.wait(PATIENCE)

    def __exit__(self, *_: object) -> None:
        for each in self._ended:
            each.set()


LACKING: dict[str, Callable[[], Any]] = {
    "descriptors": Descriptors,
    "threads": Threads,
    "idle threads": IdleThreads,
}


def pause(seconds: float) -> Deferred[None]:
    waited: Deferred[None] = Deferred()
    clock.callLater(seconds, waited.callback, None)
    return waited


async def main(lacking: str, kind: str) -> None:
    echo = Factory.forProtocol(Protocol)
    port = await endpoints.TCP4ServerEndpoint(clock, 0, interface="127.0.0.1").listen(echo)
    number = port.getHost().port
    path = os.path.join(tempfile.mkdtemp(), "s")
    await endpoints.UNIXServerEndpoint(clock, path).listen(echo)
    kinds: dict[str, Callable[[], Any]] = {
        "tcp": lambda: f"tcp:127.0.0.1:{number}",
        "a name": lambda: f"tcp:localhost:{number}",
        "unix": lambda: f"unix:{path}",
        "tls": lambda: f"tls:127.0.0.1:{number}",
        "tls with a name": lambda: f"tls:localhost:{number}",
        "ssl": lambda: f"ssl:127.0.0.1:{number}",
        "HostnameEndpoint": lambda: endpoints.HostnameEndpoint(clock, "localhost", number),
        "TCP4ClientEndpoint": lambda: endpoints.TCP4ClientEndpoint(clock, "127.0.0.1", number),
    }
    events: list[Event] = []
    # Where only a time-out tells what is lacking, it is not to be the machine's slowness.
    slow = 4 if lacking == "idle threads" else 1
    times = {"acquire_timeout": 0.5 * slow, "connect_timeout": 0.3 * slow}
    policy = Policy(**times, ejection=Ejection(failures=3))
    pool: Pool[Any] = Pool(clock, Protocol, policy=policy, observers=[events.append])
    backend = Backend(kinds[kind]())
    errors: list[Any] = []
    with LACKING[lacking]():
        for _ in range(10):
            pool.connect("us", backend).addCallbacks(
                lambda lease: lease.finished(), lambda failure: errors.append(failure.value)
            )
            await pause(0.1)
        await pause(0.6 * slow)
    ejected = [each for each in events if isinstance(each, Ejected)]
    answers = "tls" not in kind and "ssl" not in kind  # the echo speaks no TLS
    with Deadline(clock, 2.0) as deadline:
        while answers:
            try:
                lease = await pool.connect("us", backend, timeout=5.0)
            except KolusError:  # an attempt of before was too late for this machine
                await pause(0.05)
                continue
            lease.finished()
            break
    reasons = [
        each.last_error if isinstance(each, LeaseTimeout) else each.reason for each in errors
    ]
    reasons += [each.reason for each in events if isinstance(each, ConnectFailure)]
    named = all(type(each) is MachineFault for each in reasons)
    print(f"{len(ejected)} ejections, every error names what is lacking: {named}")
    print("used again: " + ("late" if deadline.passed else "in time"))
    sys.stdout.flush()
    os._exit(0)  # threads may be blocked


if __name__ == "__main__":
    clock.callWhenRunning(
        lambda: ensureDeferred(main(*sys.argv[1:])).addErrback(
            lambda failure: (print(failure.getTraceback(), flush=True), os._exit(1))
        )
    )
    clock.run()
