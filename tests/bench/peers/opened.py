"""Which connections to a server there are, and were a moment ago, by what the kernel tells."""

from __future__ import annotations

from pathlib import Path

__all__ = ["Opened"]

_LISTENS = "0A"


class Opened:
    """Counts the connections of one client to a port of this machine, on C{/proc/net/tcp}.

    One that ended is still there for a minute, unless it was reset: so look often. Its owner is the
    only one that opens any from when this is made, or from C{begin}, to the last C{look}.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._seen: set[int] = set()
        self._before = self._there()

    def begin(self) -> None:
        """What is there, and was not when it was last looked, is another client's."""
        self._before |= self._there() - self._seen

    def look(self) -> None:
        self._seen |= self._there()

    def count(self) -> int:
        """How many the client has opened."""
        self.look()
        return len(self._seen - self._before)

    def _there(self) -> set[int]:
        """The ports of the clients."""
        ports = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, here, there, state, *_ = line.split()
            ends = [int(each.rpartition(":")[2], 16) for each in (here, there)]
            if self._port in ends and state != _LISTENS:
                ends.remove(self._port)
                ports.add(ends[0])
        return ports
