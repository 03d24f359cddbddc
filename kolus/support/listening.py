"""C{CannotListen}: listening on an address failed. Here stands why, and what to do about it."""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.python.failure import Failure

from kolus.support.port_user import port_user

__all__ = ["CannotListen", "why_not_listening"]


class CannotListen(Exception):
    """Listening on an address failed: it is in use, not of this machine, or not allowed."""


def why_not_listening(description: str, failure: Failure) -> str:
    """One line on an address that cannot be listened on.

    @param description: the server endpoint string.
    @param failure: what listening failed with.
    """
    cause: Any = getattr(failure.value, "socketError", None) or failure.value
    if getattr(cause, "errno", None) == errno.EADDRINUSE:
        port = getattr(failure.value, "port", None)
        user = port_user(port) if isinstance(port, int) else None
        by = f" by {user}" if user else ""
        told = f"the address is in use{by}: stop the other program, or choose another port"
    else:
        told = _told(description, cause)
    return f"cannot listen on {description}: {told}"


def _told(description: str, cause: Any) -> str:
    number = getattr(cause, "errno", None)
    is_unix = description.startswith("unix:")
    if number == errno.EACCES and not is_unix:
        return (
            "not allowed: for a port below 1024 a process needs the capability "
            "CAP_NET_BIND_SERVICE, or a socket of systemd; or choose a port from 1024 up"
        )
    if number in (errno.EACCES, errno.EPERM):
        return "not allowed: this user may not write to the folder"
    if number == socket.EAI_NONAME:
        return "interface must be an address of this machine, such as 127.0.0.1"
    if number == errno.EADDRNOTAVAIL:
        return "this machine has no such address: see the list of ip address"
    if number == errno.ENOENT and is_unix:
        folder = description.removeprefix("unix:").split(":")[0].rpartition("/")[0]
        return f"there is no folder {folder}: make it, or choose another path"
    return str(cause)
