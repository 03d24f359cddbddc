"""The asyncio reactor, over real sockets: what tasks get that ask a pool."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.net.child import CHECKOUT
from tests.rigs.patience import PATIENCE

pytestmark = pytest.mark.long


def test_on_the_asyncio_reactor_a_task_is_told_what_to_write_and_nothing_is_lost() -> None:
    command = [sys.executable, "-m", "tests.net.asyncio_program"]
    ended = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.stdout.splitlines() == [
        "connecting: advised",
        "as a future: True",
        "waiting: advised",
        "idle: advised",
        "by a coroutine of Twisted's: True",
        "left: 1 0 0 0",
    ], ended.stderr
