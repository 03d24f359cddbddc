"""What the admin server is given: the listeners and the groups of a running daemon, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kolus.backend import Backend
from kolus.tls import Certificate

__all__ = ["Running", "RunningGroup", "RunningListener"]


class RunningGroup(Protocol):
    """A group of the daemon, with the pool that has its connections.

    @ivar pool: its C{Pool}, which has no backends but those of the group.
    @ivar group: its C{Group}; C{None} until the daemon has started.
    """

    @property
    def pool(self) -> Any: ...

    @property
    def group(self) -> Any: ...

    def set_weight(self, backend: Backend, weight: float) -> None:
        """Change the weight of a backend, for as long as it is listed.

        @raise ValueError: the weight is out of its range.
        """


class RunningListener(Protocol):
    """A listener of the daemon.

    @ivar front: the C{Front} that serves its clients.
    @ivar group: the name of the group that gives it leases.
    @ivar addresses: where it listens, as text.
    """

    @property
    def front(self) -> Any: ...

    @property
    def group(self) -> str: ...

    @property
    def addresses(self) -> Sequence[str]: ...


class Running(Protocol):
    """A running daemon. Both mappings may change at any time, as when its file is loaded again."""

    @property
    def groups(self) -> Mapping[str, RunningGroup]: ...

    @property
    def listeners(self) -> Mapping[str, RunningListener]: ...

    @property
    def certificates(self) -> Sequence[Certificate]: ...
