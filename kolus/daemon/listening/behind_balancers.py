"""The addresses on which every client sends a PROXY header first."""

from __future__ import annotations

__all__ = ["BEHIND_BALANCERS"]

BEHIND_BALANCERS = "haproxy:"
"""The prefix, as Twisted has it, of a server endpoint string whose clients send a PROXY header."""
