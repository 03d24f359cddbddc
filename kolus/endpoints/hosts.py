"""C{Hosts}: the addresses of the hosts that one backend's endpoints name.

Its state is the addresses of the hosts that were named last.
"""

from __future__ import annotations

from typing import Any

from kolus.endpoints.addresses import Addresses

__all__ = ["Hosts"]

_MOST = 16  # a backend whose endpoints are made anew for each connect may name others each time


class Hosts:
    """Remembers what is known of the addresses of each host, for endpoints that are made anew."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Addresses] = {}

    def addresses(self, reactor: Any, name: str, port: int) -> Addresses:
        """The addresses of a host: the same object each time, while it is remembered."""
        known = self._known.pop((name, port), None) or Addresses(reactor, name, port)
        while len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]  # what was named the longest ago
        self._known[name, port] = known
        return known
