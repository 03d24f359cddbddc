"""What the daemon reads of a server endpoint string itself, before Twisted does."""

from __future__ import annotations

__all__ = ["BEHIND_BALANCERS", "bare_socket"]

BEHIND_BALANCERS = "haproxy:"
"""The prefix, as Twisted has it, of a server endpoint string whose clients send a PROXY header."""

_KINDS = ("tcp:", "tcp6:", "unix:", "systemd:")


def bare_socket(description: str) -> str | None:
    """The string of the socket alone, by which another listener or another process may go on with
    it; C{None} if there is something around its connections, such as TLS."""
    its = description.removeprefix(BEHIND_BALANCERS)
    return its if its.startswith(_KINDS) else None
