"""Runs a coroutine on a loop of asyncio of its own, whichever reactor the tests run on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["run_in_a_loop"]

T = TypeVar("T")


def run_in_a_loop(steps: Coroutine[Any, Any, T]) -> T:
    """As C{asyncio.run}, in a thread: under asyncio's reactor the tests run within a loop."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, steps).result()
