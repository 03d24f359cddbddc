"""The events of a descriptor that an epoll tells."""

from __future__ import annotations

import select

__all__ = ["BROKEN", "IN", "OUT"]

IN: int = getattr(select, "EPOLLIN", 1)
OUT: int = getattr(select, "EPOLLOUT", 4)
BROKEN: int = getattr(select, "EPOLLERR", 8) | getattr(select, "EPOLLHUP", 16)
"""Always reported: a reset, or that both directions have ended."""
