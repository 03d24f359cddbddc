"""C{listen_endpoint}: makes the endpoint of an address to listen on, with a backlog for a front."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint

from kolus.daemon.behind_balancers import BEHIND_BALANCERS
from kolus.daemon.unix_listening import UNIXListeningEndpoint

__all__ = ["listen_endpoint"]

_BACKLOG = 1024


def listen_endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """Make a server endpoint whose backlog is long enough for many clients at once.

    With Twisted's default of 50 a kernel resets some of 200 clients.

    @raise ValueError: the description is no server endpoint string; the message says what is wrong.
    """
    whole = description
    description = description.removeprefix(BEHIND_BALANCERS)  # the front reads the headers itself
    kind = description.partition(":")[0]
    made: Any = None
    try:
        if kind == "unix" and ":lockfile=" not in description:
            description += ":lockfile=0"
        if kind in ("tcp", "tcp6", "ssl", "unix") and ":backlog=" not in description:
            with suppress(Exception):  # parsing without the backlog gives a better error
                made = serverFromString(reactor, f"{description}:backlog={_BACKLOG}")
        if made is None:
            made = serverFromString(reactor, description)
        if not 0 <= getattr(made, "_port", 0) < 65536:
            raise ValueError("its port is not from 0 to 65535")
        if kind == "ssl":
            _tolerate_alpn(made._sslContextFactory.getContext())
    except Exception as error:
        raise ValueError(
            f"not a server endpoint string: {whole!r} ({error}); expected for example "
            "tcp:6380:interface=127.0.0.1"
        ) from error
    if kind == "unix" and not made._wantPID:
        made = UNIXListeningEndpoint(made, made._address)
    listening: IStreamServerEndpoint = made
    return listening


def _tolerate_alpn(context: Any) -> None:
    """Accept clients that offer protocols by ALPN, and choose none.

    Twisted would end the handshake if no offered protocol matches.
    """
    from OpenSSL import SSL

    context.set_alpn_select_callback(lambda connection, offered: SSL.NO_OVERLAPPING_PROTOCOLS)
