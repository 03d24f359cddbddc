"""C{ListenerSettings}: what one listener of the front allows its clients, and how long.

The settings are frozen, and checked when they are made. The defaults suit clients that keep
connections open, such as those of databases and caches, on a network that is not the open
internet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from kolus.support import check_duration, check_whole, check_word
from kolus.tls import ListenerTLS
from kolus.tunnel.networks import Networks

__all__ = ["Ident", "ListenerSettings"]

Ident = Literal["fixed", "address", "server_name"]

_OPTIONAL_SECONDS = (
    "client_timeout",
    "backend_timeout",
    "half_closed_timeout",
    "session_limit",
    "tcp_keepalive",
    "tcp_user_timeout",
)
_SECONDS = ("queue_timeout", "handshake_timeout", "proxy_header_timeout")
_NUMBERS = ("max_clients", "max_clients_per_address", "max_new_clients")
_NETWORKS = ("allow", "deny", "accept_proxy_from")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """What a listener of the front allows its clients. Times are in seconds; C{None}: no bound.

    @ivar queue_timeout: how long a client waits for a connection to a backend; after that it is
        closed. Few users wait longer for an answer, and a queue that is longer serves nobody.
    @ivar client_timeout: time without a byte after which a session is ended if it is the client's
        turn: the last bytes came from the backend, or none have come. An hour is longer than pools
        keep idle connections; a peer that is gone is found by C{tcp_keepalive}, much sooner.
    @ivar backend_timeout: the same if it is the backend's turn: the client has sent the last bytes.
        Some requests wait for an event, so it is an hour, too.
    @ivar half_closed_timeout: how long nothing may come when one side has ended its direction; the
        session ends after that. What is half closed mostly belongs to a dead backend or client, and
        takes a connection from others. Raise it for clients that end their direction first and then
        wait long for the answer.
    @ivar handshake_timeout: how long a client may take for its TLS handshake. Only then does it
        take a connection to a backend.
    @ivar session_limit: a session is ended when it is so old, even in the middle of a transfer. For
        backends behind balancers of their own, to spread clients anew.
    @ivar tcp_keepalive: time after which the kernel asks a silent client whether it is there, and
        again after each third of it; without three answers the client is lost. A minute is
        less than address translators take to forget a connection. C{None}: it is not asked.
    @ivar tcp_user_timeout: time after which a client that takes nothing of what was sent is lost.
        That includes one that lives and does not read. C{None}: what the kernel does by itself, a
        quarter of an hour for one that is gone.
    @ivar max_clients: most clients at a time. Further ones wait in the kernel's queue until one
        ends. C{None}: as many as there are descriptors for.
    @ivar max_clients_per_address: most clients of one address at a time; one more is closed.
    @ivar max_new_clients: most new clients per second, with bursts of one second's worth. Further
        ones wait in the kernel's queue for their turn.
    @ivar ident: whose connections a client may share: C{"fixed"}: those of all clients;
        C{"address"}: those of its address; C{"server_name"}: those of the server name that it told
        in its TLS handshake.
    @ivar allow: the networks whose clients are served, such as C{10.0.0.0/8}; C{unix} for those of
        UNIX sockets. Empty: all.
    @ivar deny: the networks whose clients are closed at once, even if C{allow} has them. Both are
        about the address that a PROXY header tells, if there is one.
    @ivar accept_proxy_from: the networks of the balancers before this one. A connection from there
        must begin with a PROXY header, version 1 or 2; nobody else's header is believed. Empty:
        nobody sends one.
    @ivar proxy_header_timeout: how long the PROXY header may take to come. A balancer sends it
        first, so it is there with the first bytes.
    @ivar tls: how TLS clients are served. C{None}: clients speak no TLS, or speak it with the
        backend.
    """

    queue_timeout: float = 5.0
    client_timeout: float | None = 3600.0
    backend_timeout: float | None = 3600.0
    half_closed_timeout: float | None = 10.0
    handshake_timeout: float = 10.0
    session_limit: float | None = None
    tcp_keepalive: float | None = 60.0
    tcp_user_timeout: float | None = 120.0
    max_clients: int | None = None
    max_clients_per_address: int | None = None
    max_new_clients: int | None = None
    ident: Ident = "fixed"
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    accept_proxy_from: tuple[str, ...] = ()
    proxy_header_timeout: float = 5.0
    tls: ListenerTLS | None = None

    def __post_init__(self) -> None:
        """
        @raise ValueError: a setting has a wrong value, or two contradict each other; the message
            begins with the setting's name.
        """
        for name in (*_SECONDS, *_OPTIONAL_SECONDS):
            check_duration(name, getattr(self, name), optional=name in _OPTIONAL_SECONDS)
        for name in _NUMBERS:
            check_whole(name, getattr(self, name), 1, optional=True)
        check_word("ident", self.ident, get_args(Ident))
        for name in _NETWORKS:
            networks = getattr(self, name)
            if not isinstance(networks, tuple):
                raise ValueError(f"{name} must be a tuple of strings, not {networks!r}")
            try:
                Networks(networks)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if self.tls is not None and not isinstance(self.tls, ListenerTLS):
            raise ValueError(f"tls must be a ListenerTLS, not {self.tls!r}")
        if self.ident == "server_name" and self.tls is None:
            raise ValueError(
                'ident must not be "server_name" without tls: a client tells the name of the '
                "server in its TLS handshake"
            )
