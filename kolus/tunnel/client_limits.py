"""C{ClientLimits}: which clients a listener accepts, and how many.

Its state is the number of clients, in all and by address, and the token bucket of new ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from kolus.support import steady
from kolus.tunnel.networks import Networks
from kolus.tunnel.settings import ListenerSettings
from kolus.tunnel.token_bucket import TokenBucket

__all__ = ["ClientLimits"]

_WELCOME = ("", "")


class ClientLimits:
    """Counts clients, as HAProxy does: when there are too many, further ones wait in the kernel's
    queue; a client that is not welcome is closed.

    @ivar clients: number of clients now.
    @ivar changed: is called when a client was accepted or is gone, and there is a limit.
    """

    changed: Callable[[], object] | None = None

    def __init__(self, clock: IReactorTime, settings: ListenerSettings) -> None:
        self.clients = 0
        self._by_address: dict[str, int] = {}
        self._now = steady(clock).seconds
        self._follow(settings)

    def change(self, settings: ListenerSettings) -> None:
        """Apply other settings to new clients. Present clients stay, and count."""
        self._follow(settings)
        if self.changed is not None:
            self.changed()

    def _follow(self, settings: ListenerSettings) -> None:
        self._most = math.inf if settings.max_clients is None else settings.max_clients
        self._most_of_one = settings.max_clients_per_address
        self._allow = Networks(settings.allow)
        self._deny = Networks(settings.deny)
        self._has_rules = bool(self._allow or self._deny or self._most_of_one)
        rate = settings.max_new_clients
        self._is_limited = rate is not None or settings.max_clients is not None
        self._bucket = None if rate is None else TokenBucket(self._now, rate)

    def accept_in(self) -> float:
        """Seconds until one more client may be accepted: 0 if it may be now; infinity: one has to
        leave first."""
        if self.clients >= self._most:
            return math.inf
        return 0.0 if self._bucket is None else self._bucket.wait()

    def arrived(self) -> None:
        """A client was accepted. C{left} is due for it."""
        self.clients += 1
        if self._bucket is not None:
            self._bucket.take()
        if self._is_limited and self.changed is not None:
            self.changed()

    def left(self) -> None:
        """A client is gone."""
        self.clients -= 1
        if self._is_limited and self.changed is not None:
            self.changed()

    def refusal(self, host: str | None) -> tuple[str, str]:
        """Why a client is not welcome.

        @param host: its address; C{None} if it came by a UNIX socket.
        @return: the name of the setting, and a sentence without its subject; both empty if the
            client is welcome.
        """
        if not self._has_rules:
            return _WELCOME
        if host in self._deny:
            return "deny", "is in a network of deny"
        if self._allow and host not in self._allow:
            return "allow", "is in no network of allow"
        most = self._most_of_one
        if most is not None and host is not None and self._by_address.get(host, 0) >= most:
            name = "max_clients_per_address"
            return name, f"has {name} = {most} connections already"
        return _WELCOME

    def admitted(self, host: str | None) -> None:
        """A client that is welcome goes on. C{departed} is due for it."""
        if host is not None:  # also without a limit: one may be set while he is there
            self._by_address[host] = self._by_address.get(host, 0) + 1

    def departed(self, host: str | None) -> None:
        """A client that was admitted is gone."""
        if host is not None:
            left = self._by_address.pop(host) - 1
            if left:
                self._by_address[host] = left
