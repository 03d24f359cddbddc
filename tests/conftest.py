"""Fails a test that leaves a logged failure, a delayed call, a reader or a writer behind.

pytest-twisted accepts all of these, and lets a coroutine test hang for ever (its issues 43 and
147). So every coroutine test has a time limit here, and a test fails if it leaves something in the
reactor, a failure in the log, or an unhandled error in a Deferred.
"""

from __future__ import annotations

import functools
import gc
import inspect
import os
import random
import shutil
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from weakref import WeakSet

import pytest
import twisted.trial.unittest
from hypothesis import HealthCheck, settings
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher

from tests.rigs.patience import PATIENCE

TIME_LIMIT = 2 * PATIENCE
"""Seconds of a coroutine test, unless it is marked with C{time_limit}."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "time_limit(seconds): of a coroutine test")
    config.addinivalue_line("markers", 'long: takes many seconds, runs with pytest -m "" only')
    too_slow = [HealthCheck.too_slow]  # it bounds the time of day that drawing takes
    settings.register_profile("busy machine", deadline=None, suppress_health_check=too_slow)
    settings.load_profile("busy machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        case = getattr(item, "cls", None)
        if case is not None and issubclass(case, twisted.trial.unittest.TestCase):
            raise pytest.UsageError(
                f"{item.nodeid}: trial's TestCase runs the reactor itself; use SynchronousTestCase"
            )
        if inspect.iscoroutinefunction(item.obj):
            marker = item.get_closest_marker("time_limit")
            item.obj = _limited(item.obj, marker.args[0] if marker else TIME_LIMIT)


def pytest_collection_finish() -> None:
    """Leave what the imports made out of every later collection, which each test waits for."""
    _note_what_threads_hand_over()
    gc.collect()
    gc.freeze()


_handed_over: WeakSet[object] = WeakSet()
"""Calls that a thread has asked for: it may end a cancelled lookup of a name in any later test."""


def _note_what_threads_hand_over() -> None:
    """On asyncio they are delayed calls; other reactors keep them elsewhere."""
    from twisted.internet import reactor

    its: Any = reactor
    loop = getattr(its, "_asyncioEventloop", None)
    if loop is None:
        return

    def call_from_thread(function: Any, *args: Any, **kwargs: Any) -> None:
        loop.call_soon_threadsafe(
            lambda: _handed_over.add(its.callLater(0, function, *args, **kwargs))
        )

    its.callFromThread = call_from_thread


def _limited(
    test: Callable[..., Coroutine[Deferred[Any], Any, None]], seconds: float
) -> Callable[..., Coroutine[Deferred[Any], Any, None]]:
    @functools.wraps(test)
    async def run(*args: object, **kwargs: object) -> None:
        from twisted.internet import reactor

        await Deferred.fromCoroutine(test(*args, **kwargs)).addTimeout(seconds, reactor)

    return run


def _failure_in(event: LogEvent) -> Any:
    """What an event was logged for: by a C{Logger}, or by the older C{twisted.python.log}."""
    return event.get("log_failure") or event.get("failure")


class LoggedFailures(list[LogEvent]):
    """What was logged as a failure during a test; a test takes out what it expects."""

    def flush(self, kind: type[BaseException]) -> list[BaseException]:
        """Take out the failures of that kind."""
        gc.collect()
        taken = [each for each in self if isinstance(_failure_in(each).value, kind)]
        for each in taken:
            self.remove(each)
        return [_failure_in(each).value for each in taken]


@pytest.fixture(autouse=True)
def logged_failures() -> Iterator[LoggedFailures]:
    """Every failure that the test logs; those it does not flush fail it."""
    from twisted.internet import reactor

    failures = LoggedFailures()

    def observe(event: LogEvent) -> None:
        if _failure_in(event) is not None:
            failures.append(event)

    before = _left_in(reactor)
    globalLogPublisher.addObserver(observe)
    try:
        yield failures
        gc.collect()
        gc.freeze()  # what pytest keeps of a test would make each later collection longer
    finally:
        globalLogPublisher.removeObserver(observe)
    assert not failures, "logged: " + "; ".join(repr(_failure_in(each).value) for each in failures)
    left = [each for each in _left_in(reactor) if each not in before]
    assert not left, f"left in the reactor: {left}"


def _left_in(reactor: Any) -> list[object]:
    own = getattr(reactor, "_internalReaders", ())  # its wakers, as trial's own check spares them
    left = [*reactor.getDelayedCalls(), *reactor.getReaders(), *reactor.getWriters()]
    return [each for each in left if each not in own and each not in _handed_over]


@pytest.fixture(autouse=True)
def the_same_chance() -> None:
    """The draws of balancers, back-offs and jitters that a test gives no chance of its own."""
    random.seed(1)


@pytest.fixture
def log_events() -> Iterator[list[LogEvent]]:
    """What is logged during the test."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def require(binary: str, package: str) -> str:
    """The path of a server's binary. If it is not installed, the test is skipped.

    With C{KOLUS_REQUIRE_SERVERS=1} the test fails instead, so a missing server cannot go unnoticed.
    """
    path = shutil.which(binary, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        message = f"needs {binary} from the Debian package {package}"
        if os.environ.get("KOLUS_REQUIRE_SERVERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path
