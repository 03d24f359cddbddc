"""C{Selection}: the backends that may serve a request: a list, or some or all of a group's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from kolus.backend import AnyBackend, Backend, named, several
from kolus.balance import Balancer, Feedback
from kolus.errors import NoBackend
from kolus.group.list_statuses import ListStatuses

if TYPE_CHECKING:
    from kolus.group.group import Group
    from kolus.group.live_status import Statuses
    from kolus.group.queue import GroupQueue
    from kolus.group.selector import Selector
    from kolus.manager import Snapshots

__all__ = ["GroupSelection", "ListSelection", "Selection"]


class Selection(Protocol):
    """The backends that may serve a request, and the balancer that chooses one."""

    @property
    def statuses(self) -> Statuses:
        """The statuses that the balancer chooses from."""

    @property
    def balancer(self) -> Balancer: ...
    @property
    def draw(self) -> Callable[[], float] | None:
        """How the balancer draws, if all it does is to take the less loaded of two."""

    @property
    def feedback(self) -> Feedback | None:
        """Is told of the leases of the chosen backend. C{None} if the balancer does not observe
        leases, or is told of them anyway."""

    @property
    def fresh(self) -> bool:
        """Whether the connection must never have been leased."""

    @property
    def is_fixed(self) -> bool:
        """Whether the backends never change."""

    def without(self, exclude: Collection[AnyBackend]) -> Statuses:
        """The statuses without those of some backends."""

    def queue(self, ident: Hashable) -> GroupQueue:
        """The queue of the requests of C{ident} for any of these backends."""


class ListSelection:
    """A list of backends, any of which may serve a request."""

    __slots__ = (
        "_backends",
        "_selector",
        "_snapshots",
        "balancer",
        "feedback",
        "fresh",
        "statuses",
    )

    is_fixed = True
    draw = None

    def __init__(
        self,
        selector: Selector,
        snapshots: Snapshots,
        backends: Sequence[AnyBackend],
        balancer: Balancer,
        exclude: Collection[AnyBackend],
        fresh: bool,
    ) -> None:
        self._selector = selector
        self._snapshots = snapshots
        self._backends = backends
        self.balancer = balancer
        self.feedback = Feedback.of(balancer)
        self.fresh = fresh
        excluded: Collection[Hashable] = ()
        if exclude:
            excluded = {Backend.of(each).key for each in several("exclude", exclude)}
            self._backends = self._others(excluded)
        self.statuses = self._see(self._backends)
        self.statuses.excluded = excluded

    def without(self, exclude: Collection[AnyBackend]) -> Statuses:
        return self._see(self._others({Backend.key_of(each) for each in exclude}))

    def queue(self, ident: Hashable) -> GroupQueue:
        # The caller may change its list while the request waits.
        self._backends = tuple(self._backends)
        return self._selector.temporary_queue(ident, self._keyed(), self.fresh)

    def _see(self, backends: Sequence[AnyBackend]) -> Statuses:
        statuses = ListStatuses(backends, self._snapshots)
        if 2 * len(self._snapshots.sick) > len(self._backends):  # else there is no panic
            statuses.panic = self._selector.panic_over(self._keyed())
        return statuses

    def _keyed(self) -> _ByKey:
        return _ByKey(self._backends, self._snapshots)

    def _others(self, keys: Collection[Hashable]) -> list[AnyBackend]:
        return [each for each in self._backends if Backend.key_of(each) not in keys]


class GroupSelection:
    """A group without some of its backends, or with another balancer."""

    is_fixed = False
    draw = None

    def __init__(
        self, group: Group[Any], exclude: Sequence[Backend], balancer: Balancer, fresh: bool
    ) -> None:
        self._group = group
        self._exclude = exclude
        self.balancer = balancer
        self.feedback = Feedback.of(balancer)
        self.fresh = fresh

    @property
    def statuses(self) -> Statuses:
        whole = self._group.statuses
        if not self._exclude:
            return whole
        others = whole.without(self._exclude)
        if not others.size:
            raise NoBackend(
                f"exclude names all backends of {self._group!r}: {named(whole.backends)}"
            )
        return others

    def without(self, exclude: Collection[AnyBackend]) -> Statuses:
        return self._group.without([*self._exclude, *exclude])

    def queue(self, ident: Hashable) -> GroupQueue:
        return self._group.queue(ident, self._exclude, self.fresh)


class _ByKey(Mapping[Hashable, Backend]):
    """The backends of a list by their keys. A string is parsed only when it is looked up: of a list
    of ten thousand, a request looks up very few."""

    def __init__(self, backends: Sequence[AnyBackend], snapshots: Snapshots) -> None:
        self._given = {Backend.key_of(each): each for each in backends}
        self._snapshots = snapshots

    def __getitem__(self, key: Hashable) -> Backend:
        return self._snapshots.backend(self._given[key])

    def __contains__(self, key: object) -> bool:
        return key in self._given

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)
