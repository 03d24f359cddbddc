"""Has the kernel find out that the peer of a socket is gone."""

from __future__ import annotations

import math
import socket
from functools import lru_cache
from typing import Protocol

__all__ = ["SilenceLimits", "set_silence_limits"]

_PROBES = 3
_MOST_SECONDS = 32767
_MOST_MILLISECONDS = 2**31 - 1
"""The largest values that Linux takes."""


class SilenceLimits(Protocol):
    """How long a peer may be silent, in seconds; C{None}: what the kernel does by itself.

    @ivar tcp_keepalive: time after which a silent peer is asked whether it is there.
    @ivar tcp_user_timeout: time after which one that takes nothing of what was sent is lost.
    """

    @property
    def tcp_keepalive(self) -> float | None: ...
    @property
    def tcp_user_timeout(self) -> float | None: ...


def set_silence_limits(
    its: socket.socket, settings: SilenceLimits, family: int | None = None
) -> None:
    """Have the kernel ask silent peers whether they are there, and give up those that do not
    answer.

    Linux gives these options of a listening socket to each socket that it accepts, so they cost no
    client anything. Sockets of other kinds are left alone.

    @param family: that of the socket, which takes long to tell it; C{None}: to be asked for.
    """
    if (its.family if family is None else family) not in (socket.AF_INET, socket.AF_INET6):
        return
    for level, option, value in _options(settings.tcp_keepalive, settings.tcp_user_timeout):
        try:
            its.setsockopt(level, option, value)
        except OSError:  # it is closed already, or the platform is more modest
            continue


@lru_cache
def _options(
    keepalive: float | None, user_timeout: float | None
) -> tuple[tuple[int, int, int], ...]:
    """The options of a socket, each with its level and value."""
    options: list[tuple[str, int]] = []
    if keepalive is not None:
        options += [
            ("TCP_KEEPIDLE", _whole(keepalive)),
            ("TCP_KEEPINTVL", _whole(keepalive / _PROBES)),
        ]
    if keepalive is not None and user_timeout is None:  # else Linux counts the time, not the probes
        options.append(("TCP_KEEPCNT", _PROBES))
    if user_timeout is not None:
        milliseconds = math.ceil(min(user_timeout * 1000, _MOST_MILLISECONDS))
        options.append(("TCP_USER_TIMEOUT", milliseconds))
    of_tcp = [
        (int(socket.IPPROTO_TCP), getattr(socket, name), value)
        for name, value in options
        if hasattr(socket, name)  # each platform has its own
    ]
    general = [] if keepalive is None else [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    return (*general, *of_tcp)


def _whole(seconds: float) -> int:
    return max(1, round(min(seconds, _MOST_SECONDS)))
