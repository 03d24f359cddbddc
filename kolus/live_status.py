"""C{LiveStatus}: what a balancer sees of one backend, looked up when it is asked for.

A balancer that draws two of ten thousand backends and compares their loads pays for two loads. A
live status keeps no numbers: its load is read off the backend's managers, and what few balancers
ask for off a C{Status} that is made for that.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Hashable, Sequence
from typing import TYPE_CHECKING, overload

from kolus.account import Account
from kolus.backend import AnyBackend, Backend, State, Status

if TYPE_CHECKING:
    from kolus.interfaces import IKolusManager
    from kolus.observatory import Observatory
    from kolus.panic import Panic

__all__ = ["LiveStatus", "Statuses"]


class LiveStatus(Status):
    """The numbers of one backend, as they are whenever one of them is looked at.

    @ivar among: the sequence that it is one of.
    """

    __slots__ = ("_account", "_backend", "_observatory", "among")
    # A frozen dataclass with slots breaks its subclasses'; with one of the two alone it is slow.
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__

    def __init__(
        self,
        backend: Backend,
        observatory: Observatory,
        among: Statuses,
        account: Account | None = None,
    ) -> None:
        """
        @param account: the backend's, if that is at hand.
        """
        self._backend = backend
        self._observatory = observatory
        self._account = account
        self.among = among

    @property
    def account(self) -> Account | None:
        """What is known of the backend; C{None} if it was never used."""
        if self._account is None:
            self._account = self._observatory.find_account(self._backend.key)
        return self._account

    @property
    def load(self) -> float:
        account = self._account or self.account
        if account is None:
            is_untouched = self._observatory.is_untouched(self._backend)
            return 1 / self._backend.weight if is_untouched else self._slow_load()
        load = account.load()
        return load / self._backend.weight if load > 0 else self._slow_load()

    @property
    def outstanding(self) -> int:
        """What is leased and waits there."""
        load = -1 if self.account is None else self.account.load()
        return load - 1 if load > 0 else self.leased + self.waiting

    def _slow_load(self) -> float:
        status = self.snapshot()
        return status.pressure if self._may_take(status) else math.inf

    @property
    def takes_requests(self) -> bool:
        account = self._account or self.account
        is_known = account is not None and account.load() > 0
        return is_known or self._may_take(self.snapshot())

    def _may_take(self, status: Status) -> bool:
        panic = self.among.panic
        panics = panic is not None and panic.is_on and status.state is State.EJECTED
        return status.takes_requests or panics

    def snapshot(self) -> Status:
        """The numbers as they are now, and then stay."""
        return self._observatory.snapshot(self._backend)

    @property
    def room(self) -> int:
        account = self.account
        if account is None or len(account.members) != 1:
            return self.snapshot().room
        return account.members[0].room()

    @property
    def backend(self) -> Backend:
        return self._backend

    @property
    def manager(self) -> IKolusManager | None:
        return self.snapshot().manager

    @property
    def ident(self) -> Hashable:
        return self.snapshot().ident

    @property
    def idle(self) -> int | None:
        account = self.account
        if account is None or not account.members:
            return self.snapshot().idle
        return sum([each.ready() for each in account.members])

    @property
    def leased(self) -> int:
        account = self.account
        if account is None:
            return 0 if self._observatory.is_untouched(self._backend) else self.snapshot().leased
        return sum([each.load() - len(each.waiting) for each in account.members])

    @property
    def connecting(self) -> int:
        return self.snapshot().connecting

    @property
    def unused(self) -> int | None:
        return self.snapshot().unused

    @property
    def waiting(self) -> int:
        account = self.account
        if account is None:
            return 0 if self._observatory.is_untouched(self._backend) else self.snapshot().waiting
        return sum([len(each.waiting) for each in account.members])

    @property
    def limit(self) -> int:
        return self.snapshot().limit

    @property
    def state(self) -> State:
        return self.snapshot().state

    @property
    def ramp(self) -> float:
        account = self.account
        return 1.0 if account is None else account.health.ramp()


class Statuses(Sequence[Status]):
    """Live statuses to choose from.

    @ivar size: how many there are.
    @ivar among: what they say that they are one of: this, or what this is a part of.
    @ivar panic: whether ejected ones may be chosen, too; C{None} if they may not.
    @ivar excluded: the keys of those that were left out of what it is a part of.
    @ivar refused: what in a list was no backend when it was looked at, and what was raised then.
    """

    size: int
    among: Statuses
    panic: Panic | None = None
    excluded: Collection[Hashable] = ()
    refused: tuple[AnyBackend, Exception] | None = None

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, place: int) -> Status: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Status]: ...
    def __getitem__(self, place: int | slice) -> Status | Sequence[Status]:
        if isinstance(place, slice):
            return [self.at(each) for each in range(*place.indices(self.size))]
        return self.at(place)

    @abstractmethod
    def at(self, place: int) -> LiveStatus:
        """
        @raise IndexError: there is none.
        """
