"""What prevents the reactor's threads from resolving names, and what does not."""

from __future__ import annotations

import errno
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet._resolver import GAIResolver
from twisted.internet.error import DNSLookupError
from twisted.python.threadpool import ThreadPool

from kolus.endpoints.machine import threads_fault
from tests.rigs.patience import PATIENCE

LATE = DNSLookupError("late")


def told(pool: ThreadPool | None) -> str | None:
    resolver = GAIResolver(None, lambda: pool)  # type: ignore[arg-type]
    reactor: Any = SimpleNamespace(threadpool=pool, nameResolver=resolver)
    fault = threads_fault(reactor, LATE, may_wait=True)
    return None if fault is None else str(fault)


def test_threads_that_start_with_the_reactor_are_no_fault() -> None:
    assert told(None) is None
    pool = ThreadPool()
    pool.callInThread(lambda: None)
    assert told(pool) is None


def test_threads_that_are_stopped_are_one() -> None:
    pool = ThreadPool()
    pool.start()
    pool.stop()
    assert "stopped" in str(told(pool))


def test_that_no_descriptor_is_left_to_ask_a_name_server_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, "no")

    pool = ThreadPool()
    pool.start()
    monkeypatch.setattr("kolus.endpoints.machine.socket.socket", none_left)
    try:
        assert "no file descriptor left" in str(told(pool))
    finally:
        pool.stop()


@pytest.mark.long
def test_a_name_is_looked_up_although_the_reactor_does_not_run_yet() -> None:
    program = (
        "from twisted.internet.task import react\n"
        "from twisted.internet.protocol import Protocol\n"
        "from kolus import Pool\n"
        "async def main(reactor):\n"
        "    await Pool(reactor, Protocol).connect('us', ('no.such.host.invalid', 80))\n"
        "react(main)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "no.such.host.invalid" in ended.stderr
    assert "no thread can be started" not in ended.stderr
