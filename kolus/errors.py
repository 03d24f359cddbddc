"""The errors that kolus raises, and those that its Deferreds fail with.

::

    KolusError
      Rejected            the pool said no at once
        PoolFull          the limit is reached and so is the bound of the queue
        WrongIdent        the manager belongs to another ident
        Draining          the backend takes no new leases
        NoBackend         there was nothing to choose from, or nothing was chosen
      LeaseTimeout        waited in vain; also a twisted.internet.defer.TimeoutError
      ConnectFailed       the backend could not be reached or prepared
      Closed              the pool, or the manager asked, is closed
      LeaseError          the caller's own mistake with a lease; raised at once
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

from twisted.internet.defer import TimeoutError
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str

if TYPE_CHECKING:
    from kolus.backend import AnyBackend, Backend
    from kolus.status import Status

__all__ = [
    "Closed",
    "ConnectFailed",
    "Draining",
    "KolusError",
    "LeaseError",
    "LeaseTimeout",
    "NoBackend",
    "PoolFull",
    "Rejected",
    "WrongIdent",
    "describe",
    "reason_of",
]


_MOST_NAMED = 10


class KolusError(Exception):
    """Any error of this library."""


class Rejected(KolusError):
    """The request was refused at once; nothing was tried."""


class PoolFull(Rejected):
    """Everything is leased and as many wait already as may wait."""


class WrongIdent(Rejected):
    """The manager of that backend belongs to another ident."""


class Draining(Rejected):
    """The backend gives no new leases: it is being drained."""


class NoBackend(Rejected):
    """There was no backend to choose from, or the balancer chose none."""


class Closed(KolusError):
    """The pool or the manager is closed."""


class LeaseError(KolusError):
    """A lease was misused: settled twice, used after it was settled, not this pool's."""


class ConnectFailed(KolusError):
    """A connection could not be made or prepared.

    @ivar backend: where to.
    @ivar reason: the exception that ended the last attempt, without its traceback: that leads back
        to all that the caller of C{connect} had, so it is in the log alone.
    @ivar retry_in: seconds until the next attempt is due; 0.0 if it may be made at once.
    @ivar tried: of a request that several backends could have served: what became of it, or of
        the last attempt, at each of them; a string that turned out to be none stands for itself.
    """

    def __init__(
        self,
        backend: Backend,
        reason: BaseException,
        retry_in: float = 0.0,
        tried: Mapping[AnyBackend, BaseException] | None = None,
    ) -> None:
        self.backend = backend
        self.reason = reason
        self.retry_in = retry_in
        self.tried = dict(tried or {})
        later = f"; the next attempt is due in {retry_in:.3g} s" if retry_in > 0 else ""
        others = {each: why for each, why in self.tried.items() if each != backend}
        super().__init__(
            f"cannot connect to {backend}: {describe(reason)}{later}{_also_tried(others)}"
        )
        self.__cause__ = reason


class LeaseTimeout(KolusError, TimeoutError):
    """No connection became free before the deadline.

    @ivar status: the manager's numbers when the wait ended.
    @ivar waited: seconds from the request until it failed, at its deadline or just after.
    @ivar last_error: what the last attempt to connect failed with, if it failed; else C{None}.
    @ivar tried: of a request that several backends could have served: which could not, and why.
    """

    def __init__(
        self,
        status: Status,
        waited: float,
        last_error: BaseException | None,
        tried: Mapping[AnyBackend, BaseException] | None = None,
    ) -> None:
        self.status = status
        self.waited = waited
        self.last_error = last_error
        self.tried = dict(tried or {})
        cause = f"; the last connect failed: {describe(last_error)}" if last_error else ""
        others = {each: why for each, why in self.tried.items() if each != status.backend}
        super().__init__(
            f"no connection to {status} within {waited:.3g} s{cause}{_also_tried(others)}"
        )
        self.__cause__ = last_error

    def after(
        self, seconds: float, tried: Mapping[AnyBackend, BaseException] | None = None
    ) -> LeaseTimeout:
        """The same, of a request that had waited before.

        @param seconds: for how long.
        @param tried: where, and what became of it.
        """
        everything = {**(tried or {}), **self.tried}
        return LeaseTimeout(self.status, seconds + self.waited, self.last_error, everything)


def describe(error: BaseException) -> str:
    """An exception in one line: its class, and its message if it has one."""
    text = safe_str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _also_tried(others: Mapping[AnyBackend, BaseException]) -> str:
    """What became of a request elsewhere, as the end of a message."""
    if not others:
        return ""
    told = [f"{each}: {describe(why)}" for each, why in islice(others.items(), _MOST_NAMED)]
    more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
    return f"; nor to {', '.join(told)}{more}"


def reason_of(failure: Failure) -> BaseException:
    """The exception of a failure."""
    assert failure.value is not None
    return failure.value
