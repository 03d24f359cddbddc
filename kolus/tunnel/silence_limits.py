"""Has the kernel find out that the peer of a socket is gone."""

from __future__ import annotations

import math
import socket
from contextlib import suppress
from typing import Protocol

__all__ = ["SilenceLimits", "set_silence_limits"]

_PROBES = 3
_MOST_SECONDS = 32767
_MOST_MILLISECONDS = 2**31 - 1
"""The largest values that Linux takes."""


class SilenceLimits(Protocol):
    """How long a peer may be silent, in seconds; C{None}: what the kernel does by itself.

    @ivar tcp_keepalive: a peer of which nothing came for so long is asked whether it is there.
    @ivar tcp_user_timeout: one that takes nothing of what was sent for so long is lost.
    """

    @property
    def tcp_keepalive(self) -> float | None: ...
    @property
    def tcp_user_timeout(self) -> float | None: ...


def set_silence_limits(its: socket.socket, settings: SilenceLimits) -> None:
    """Have the kernel ask silent peers whether they are there, and give up those that do not
    answer.

    Linux gives these options of a listening socket to each socket that it accepts, so they cost no
    client anything. Sockets of other kinds are left alone.
    """
    if its.family not in (socket.AF_INET, socket.AF_INET6):
        return
    options: list[tuple[str, int]] = []
    with suppress(OSError):
        if settings.tcp_keepalive is not None:
            its.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
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
                its.setsockopt(socket.IPPROTO_TCP, option, value)


def _whole(seconds: float) -> int:
    return max(1, round(min(seconds, _MOST_SECONDS)))
