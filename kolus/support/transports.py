"""C{abort}: ends the connection of any kind of transport now."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport

__all__ = ["abort"]


def abort(transport: Any) -> None:
    """Close a connection now, with a reset if its transport supports it. A process is killed, as it
    may go on although its pipes are closed."""
    end = getattr(transport, "abortConnection", None)
    if end is not None:
        end()
        return
    transport.loseConnection()
    if IProcessTransport.providedBy(transport):
        with suppress(ProcessExitedAlready):
            transport.signalProcess("KILL")
