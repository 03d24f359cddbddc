"""C{LiveStatus}: what a balancer sees of one backend, looked up when it is asked for.

A balancer that draws two of ten thousand backends and compares their loads pays for two loads. A
live status keeps no numbers: its load is read off the backend's managers, and what few balancers
ask for off a C{Status} that is made for that.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, overload

from kolus.account import Account
from kolus.backend import AnyBackend, Backend, State, Status

if TYPE_CHECKING:
    from kolus.interfaces import IKolusManager
    from kolus.observatory import Observatory

__all__ = ["Listed", "LiveStatus"]


class LiveStatus(Status):
    """The numbers of one backend, as they are whenever one of them is looked at.

    @ivar among: the sequence that it is one of.
    """

    __slots__ = ("_account", "_backend", "_observatory", "among")
    __setattr__ = object.__setattr__  # a frozen dataclass with slots breaks its subclasses'

    def __init__(self, backend: Backend, observatory: Observatory, among: Any) -> None:
        self._backend = backend
        self._observatory = observatory
        self._account: Account | None = None
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
        weight = self._backend.weight
        if account is None:
            return (
                1 / weight if self._observatory.is_untouched(self._backend) else self._slow_load()
            )
        load, serves = 1, False
        for each in account.members:
            load += each.load()
            serves = serves or each.serves()
        if serves and account.health.is_well:
            return load / weight
        return self._slow_load()

    def _slow_load(self) -> float:
        status = self.snapshot()
        return status.pressure if self._may_take(status) else math.inf

    @property
    def takes_requests(self) -> bool:
        return self._may_take(self.snapshot())

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


class Listed(Sequence[Status]):
    """The live statuses of a list of backends, each made when it is looked at.

    @ivar refused: what was raised where something in the list was no backend.
    @ivar panic: none: of a mere list it is not known how many are ejected.
    """

    panic = None

    def __init__(self, backends: Sequence[AnyBackend], observatory: Observatory) -> None:
        self._backends = backends
        self._observatory = observatory
        self.refused: Exception | None = None

    def __len__(self) -> int:
        return len(self._backends)

    @overload
    def __getitem__(self, place: int) -> Status: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Status]: ...
    def __getitem__(self, place: int | slice) -> Status | Sequence[Status]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        given = self._backends[place]
        if isinstance(given, Backend):
            return LiveStatus(given, self._observatory, self)
        try:
            backend = self._observatory.backend(given)
        except (TypeError, ValueError) as error:
            self.refused = error
            raise
        return LiveStatus(backend, self._observatory, self)
