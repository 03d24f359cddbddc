"""C{GroupBackends}: the backends of a group, as its source tells them, and the queues for them.

Its state is the backends by their keys, and their statuses; the panic; the feedback of the group's
balancer; and the queues, one for each ident and set of excluded backends that had waiters. A new
list changes the backends, the statuses, and the backends of the queues.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from kolus.backend import AnyBackend, Backend, Backends, named
from kolus.group.group_statuses import GroupStatuses
from kolus.group.queues import Keys, Queues
from kolus.health import Panic

if TYPE_CHECKING:
    from kolus.balance import Feedback
    from kolus.group.group import Group
    from kolus.group.queue import GroupQueue
    from kolus.group.statuses import Statuses
    from kolus.manager import Managers

__all__ = ["GroupBackends", "by_keys"]


class GroupBackends:
    """What the requests of a group choose from, and wait for.

    @ivar by_key: the backends. Only this class changes it.
    @ivar statuses: what the balancer chooses from.
    @ivar panic: whether ejected backends may serve, too.
    @ivar queues: the queues of the group.
    @ivar is_fixed: whether the backends never change, as those of a list.
    """

    is_fixed = False

    def __init__(
        self,
        group: Group[Any],
        managers: Managers,
        clock: IReactorTime,
        feedback: Feedback | None,
    ) -> None:
        """
        @param feedback: is told of the leases of these backends.
        """
        self._group = group
        self._managers = managers
        self._records = managers.records
        self._feedback = feedback
        self.by_key: dict[Hashable, Backend] = {}
        self.queues = Queues(managers, clock)
        self.panic = Panic(managers.records, {}, logs=True)
        self.statuses = self._see([])

    def change(self, by_key: dict[Hashable, Backend]) -> None:
        """Set the backends. Waiters at those that have left are placed elsewhere."""
        before, self.by_key = self.by_key, by_key
        self._stop_observing(before)
        self.statuses = self._see(list(by_key.values()))
        self._records.delist(before)

    def change_queues(self) -> None:
        """Have the queues serve what there is now. It may call anything."""
        self.queues.change(self.by_key, self._but)

    def stop(self) -> None:
        """The group is closed: do not observe the backends any more."""
        self._stop_observing(self.by_key)
        self._records.delist(self.by_key)

    def teach(self, feedback: Feedback | None) -> None:
        """Tell another balancer of the leases, instead of the one before.

        @param feedback: C{None}: nobody is told.
        """
        self._unteach(self.by_key)
        self._feedback = feedback
        self._teach()

    def _see(self, backends: Sequence[Backend]) -> GroupStatuses:
        self._records.enlist(self.by_key)
        self._teach()
        self.panic.change(self.by_key)
        return GroupStatuses(backends, self._managers, self.panic)

    def _stop_observing(self, before: Backends) -> None:
        self.statuses.stop()
        self._unteach(before)

    def _teach(self) -> None:
        if self._feedback is not None:
            self._records.subscriptions.teach(self._feedback, self.by_key)

    def _unteach(self, backends: Backends) -> None:
        if self._feedback is not None:
            self._records.subscriptions.unteach(self._feedback, backends)

    # What a selection asks

    def without(self, exclude: Collection[AnyBackend]) -> Statuses:
        """The statuses without those of some backends."""
        return self.statuses.without(exclude)

    def all_named(self) -> str:
        """What the backends are called together in an error."""
        return f"all backends of {self._group!r}: {named(self.statuses.backends)}"

    def queue(
        self, ident: Hashable, exclude: Collection[AnyBackend] = (), fresh: bool = False
    ) -> GroupQueue:
        """The queue of the requests of C{ident} for any of the backends; made if there is none.

        @param exclude: backends that must not serve it. Such a queue is closed when it is empty.
        @param fresh: whether they want connections that were never leased.
        @raise Closed: the group was closed while a request was retried.
        """
        self._group.check_open()
        left_out = frozenset(map(Backend.key_of, exclude))
        queue = self.queues.find(ident, left_out, fresh)
        if queue is None:
            queue = self.queues.make(
                ident,
                left_out,
                self._but(left_out),
                self.queues.openings(frozenset(), self.by_key, lambda: self.panic),
                lasts=not left_out,
                fresh=fresh,
            )
        return queue

    def _but(self, left_out: Keys) -> Backends:
        return _But(self.by_key, left_out) if left_out else self.by_key


class _But(Mapping[Hashable, Backend]):
    """Backends without some. A request that leaves out a few of ten thousand copies none."""

    def __init__(self, backends: Backends, left_out: Keys) -> None:
        self._backends = backends
        self._left_out = left_out

    def __getitem__(self, key: Hashable) -> Backend:
        if key in self._left_out:
            raise KeyError(key)
        return self._backends[key]

    def __contains__(self, key: object) -> bool:
        return key not in self._left_out and key in self._backends

    def __iter__(self) -> Iterator[Hashable]:
        return (each for each in self._backends if each not in self._left_out)

    def __len__(self) -> int:
        return len(self._backends) - sum([each in self._backends for each in self._left_out])


def by_keys(group: Group[Any], backends: Sequence[Backend]) -> dict[Hashable, Backend]:
    """Check a source's list, for a user may have written the source; return it by keys.

    @raise TypeError: it is not a sequence of Backends.
    @raise ValueError: it is empty, or a backend is in it twice.
    """
    if not isinstance(backends, Sequence) or isinstance(backends, str | bytes):
        raise TypeError(f"the source of {group!r} must tell a sequence, not {backends!r}")
    keyed: dict[Hashable, Backend] = {}
    for each in backends:
        if not isinstance(each, Backend):
            raise TypeError(f"the source of {group!r} must tell Backends, not {each!r}")
        if each.key in keyed:
            raise ValueError(f"the source of {group!r} tells {each} twice")
        keyed[each.key] = each
    if not keyed:
        raise ValueError(f"the source of {group!r} tells no backend")
    return keyed
