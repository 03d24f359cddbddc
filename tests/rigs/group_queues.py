"""All queues of the groups and lists of a pool."""

from __future__ import annotations

from typing import Any

__all__ = ["queues_of"]


def queues_of(index: Any) -> list[Any]:
    """All queues that a C{GroupQueueIndex} knows."""
    return [queue for its in index._queues.values() for queue in its]
