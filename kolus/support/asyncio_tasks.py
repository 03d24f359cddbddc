"""Whether an asyncio task awaits what only Twisted can wait for."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["is_awaited_by_a_task", "tasks"]

tasks: Mapping[Any, Any] = getattr(asyncio.tasks, "_current_tasks", {})
"""The asyncio tasks that are running, by their loops. It is asyncio's own; it is empty, and costs
next to nothing to look at, while no task runs."""

_SUSPENDABLE = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def is_awaited_by_a_task() -> bool:
    """Whether the caller, a generator, is awaited by the asyncio task that is running.

    A coroutine that Twisted runs may be called from a task. Then there is an ordinary function
    between the two.
    """
    try:
        task: Any = asyncio.current_task()
    except RuntimeError:  # the loop runs in another thread
        return False
    running = None if task is None else task.get_coro()
    its = getattr(running, "cr_frame", None) or getattr(running, "gi_frame", None)
    frame = sys._getframe(1)
    while its is not None and frame.f_code.co_flags & _SUSPENDABLE:
        if frame is its:
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
