"""Tells the kernel how to send on a TCP connection, and how long its peer may be silent."""

from __future__ import annotations

import math
import socket
from contextlib import suppress
from typing import Any

from kolus.connection.transports import layers

__all__ = ["set_tcp_options"]

_PROBES = 3
_MOST_SECONDS = 32767
_MOST_MILLISECONDS = 2**31 - 1
"""The largest values that Linux takes."""


def set_tcp_options(transport: Any, timeout: float | None) -> None:
    """Have a TCP connection send each write at once (C{TCP_NODELAY}), and end when its peer did not
    answer for so long.

    By default the kernel holds a small write back while an earlier one is not acknowledged. On a
    connection that several calls share, each call would wait 40 ms behind a slow one. To find out
    whether the peer is there, half of the time may pass until the kernel asks it, if the connection
    is idle; then it asks three times. A transport without a socket of its own, or with one that is
    not TCP, is left alone.

    @param timeout: seconds; C{None} or infinity: as long as the kernel waits by default.
    """
    get_handle = getattr(layers(transport)[-1], "getHandle", None)
    handle = None if get_handle is None else get_handle()
    if not isinstance(handle, socket.socket):
        return
    if handle.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with suppress(OSError):  # it is closed already, or the platform is more modest
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if timeout is not None and timeout != math.inf:
            _limit_silence(handle, timeout)


def _limit_silence(handle: socket.socket, seconds: float) -> None:
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _whole(seconds / 2)),
        ("TCP_KEEPINTVL", _whole(seconds / 2 / _PROBES)),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", math.ceil(min(seconds * 1000, _MOST_MILLISECONDS))),
    ):
        option = getattr(socket, name, None)  # each platform has its own
        if option is not None:
            handle.setsockopt(socket.IPPROTO_TCP, option, value)


def _whole(seconds: float) -> int:
    return max(1, round(min(seconds, _MOST_SECONDS)))
