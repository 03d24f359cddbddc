"""Settings of a listening socket that the sockets which it accepts inherit."""

from __future__ import annotations

import math
import socket
from contextlib import suppress

from kolus.tunnel.settings import ListenerSettings

__all__ = ["set_silence_limits"]

_PROBES = 3
_MOST_SECONDS = 32767
_MOST_MILLISECONDS = 2**31 - 1
"""The largest values that Linux takes."""


def set_silence_limits(listening: socket.socket, settings: ListenerSettings) -> None:
    """Have the kernel ask silent clients whether they are there, and give up those that do not
    answer: see C{tcp_keepalive} and C{tcp_user_timeout}.

    Linux gives these options to each socket that is accepted, so they cost no client anything.
    Sockets of other kinds are left alone.
    """
    if listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    options: list[tuple[str, int]] = []
    with suppress(OSError):
        if settings.tcp_keepalive is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            options += [
                ("TCP_KEEPIDLE", _whole(settings.tcp_keepalive)),
                ("TCP_KEEPINTVL", _whole(settings.tcp_keepalive / _PROBES)),
                ("TCP_KEEPCNT", _PROBES),
            ]
    if settings.tcp_user_timeout is not None:
        milliseconds = math.ceil(min(settings.tcp_user_timeout * 1000, _MOST_MILLISECONDS))
        options.append(("TCP_USER_TIMEOUT", milliseconds))
    for name, value in options:
        option = getattr(socket, name, None)  # each platform has its own
        if option is not None:
            with suppress(OSError):
                listening.setsockopt(socket.IPPROTO_TCP, option, value)


def _whole(seconds: float) -> int:
    return max(1, round(min(seconds, _MOST_SECONDS)))
