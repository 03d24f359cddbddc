"""Tells the kernel how long the peer of a TCP connection may be silent."""

from __future__ import annotations

import math
import socket
from contextlib import suppress
from typing import Any

from kolus.connection.transports import layers

__all__ = ["limit_silence"]

_PROBES = 3
_MOST_SECONDS = 32767
_MOST_MILLISECONDS = 2**31 - 1
"""The largest values that Linux takes."""


def limit_silence(transport: Any, seconds: float) -> None:
    """Have a TCP connection end when its peer did not answer for so long.

    Half of the time may pass until the kernel asks an idle peer; then it asks three times. A
    transport without a socket of its own, or with one that is not TCP, is left alone.
    """
    get_handle = getattr(layers(transport)[-1], "getHandle", None)
    handle = None if get_handle is None else get_handle()
    if not isinstance(handle, socket.socket) or seconds == math.inf:
        return
    if handle.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with suppress(OSError):  # it is closed already, or the platform is more modest
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
