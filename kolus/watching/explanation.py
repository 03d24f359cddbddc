"""The result of C{pool.explain()}: all leases and waiters, and why these wait.

The values are complete. C{str()} of them is a text for an operator. For each manager it lists the
oldest leases and the first waiters, and only counts the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice
from textwrap import indent, shorten

from twisted.application.service import IService

from kolus.errors import describe
from kolus.status import State, Status

__all__ = [
    "LeaseExplanation",
    "ManagerExplanation",
    "PoolExplanation",
    "WaiterExplanation",
    "label",
    "why_waiting",
]

_MOST = 20  # leases, and waiters, to list per manager
_LONGEST_ERROR = 300  # characters; the message of an error may be a whole page

_NOT_OPEN = {
    State.ABSENT: "no manager runs",
    State.PAUSED: "the manager is paused: it gives no leases until it is resumed",
    State.DRAINING: "the manager is draining: it gives no new leases",
    State.CLOSED: "the manager is closed",
}


@dataclass(frozen=True, slots=True)
class LeaseExplanation:
    """A lease, or a connection in a check or in a reset.

    @ivar held: seconds since the lease was given, or the check or reset began.
    @ivar uses: number of leases of the connection so far, including this one.
    @ivar owner: the label of the owner, see L{label}; C{None} without an owner.
    @ivar origin: where the lease was taken, perhaps in several lines; C{None} if that is unknown.
    @ivar doing: C{"leased"}, C{"in a check"}, C{"in a keep-alive check"} or C{"in a reset"}.
    """

    held: float
    uses: int
    owner: str | None
    origin: str | None
    doing: str = "leased"

    def __str__(self) -> str:
        facts = f"{self.doing} for {_s(self.held)}, use {self.uses} of its connection"
        return facts + _owner(self.owner) + _origin("taken", self.origin)


@dataclass(frozen=True, slots=True)
class WaiterExplanation:
    """A request in the queue.

    @ivar position: the position in the queue; 1 is served next.
    @ivar why: the reason why it waits.
    @ivar waited: seconds since the request was made.
    @ivar deadline_in: seconds until the request fails; C{None} if it has no deadline.
    @ivar owner: the label of the owner, see L{label}; C{None} without an owner.
    @ivar origin: where the request was made, perhaps in several lines; C{None} if that is unknown.
    """

    position: int
    why: str
    waited: float
    deadline_in: float | None
    owner: str | None
    origin: str | None

    def __str__(self) -> str:
        return self._text(self.why)

    def _text(self, why: str) -> str:
        until = "no deadline" if self.deadline_in is None else f"fails in {_s(self.deadline_in)}"
        facts = f"{self.position}. for {_s(self.waited)}, {until}{_owner(self.owner)}"
        return facts + (f": {why}" if why else "") + _origin("made", self.origin)


@dataclass(frozen=True, slots=True)
class ManagerExplanation:
    """One manager: its status, leases, queue, and last attempt to connect.

    @ivar status: its numbers.
    @ivar waiters: the queue, the oldest request first.
    @ivar leases: the leases, in any order.
    @ivar last_error: the error of the last attempt to connect; C{None} if it succeeded.
    @ivar retry_in: seconds until the next attempt is due; C{None} if it may begin at once.
    @ivar why: the reason why the first request waits; empty if the queue is empty.
    """

    status: Status
    waiters: tuple[WaiterExplanation, ...]
    leases: tuple[LeaseExplanation, ...]
    last_error: BaseException | None
    retry_in: float | None
    why: str

    @classmethod
    def absent(cls, status: Status, last_error: BaseException) -> ManagerExplanation:
        """A backend that has no manager now, and whose last attempt to connect failed."""
        return cls(status, (), (), last_error, None, "")

    def __str__(self) -> str:
        return "\n".join([self._headline(), *self._leases(), *self._waiters(), *self._connects()])

    def _headline(self) -> str:
        return f"{self.status} for {self.status.ident!r}"

    def _leases(self) -> Iterator[str]:
        if self.leases:
            yield f"  {_count(len(self.leases), 'lease')}, the oldest first:"
            oldest = nlargest(_MOST, self.leases, key=lambda each: each.held)
            yield from _listed(map(str, oldest), len(self.leases))

    def _waiters(self) -> Iterator[str]:
        if self.waiters:
            because = self.why and f": {self.why}"
            yield f"  {_count(len(self.waiters), 'request')} in the queue{because}"
            # The line above gives the reason: repeat it only for requests with another one.
            others = (each._text(each.why if each.why != self.why else "") for each in self.waiters)
            yield from _listed(islice(others, _MOST), len(self.waiters))

    def _connects(self) -> Iterator[str]:
        if self.last_error is not None:
            due = f"is due in {_s(self.retry_in)}" if self.retry_in else "may be made at once"
            yield f"  the last attempt to connect failed: {_error(self.last_error)}"
            yield f"  the next attempt {due}"


@dataclass(frozen=True, slots=True)
class PoolExplanation:
    """All managers of a pool.

    @ivar managers: each manager, and each backend without one whose last attempt failed.
    @ivar connections: connections of all backends, including those that are connecting or closing.
    @ivar limit: most connections of all backends together; C{None}: only each backend has a limit.
    @ivar ejected: the names of the ejected backends, each with the reason: failures, a health
        check, or by hand.
    """

    managers: tuple[ManagerExplanation, ...]
    connections: int = 0
    limit: int | None = None
    ejected: tuple[tuple[str, str], ...] = ()

    def lines(self) -> Iterator[str]:
        """The text for an operator, in parts of one line or more."""
        if self.limit is not None:
            yield f"{self.connections} of at most {self.limit} connections of the pool"
        if not self.managers:
            yield "no manager runs"
        yield from map(str, self.managers)
        for name, why in self.ejected:
            yield f"{name} is ejected: {why}"

    def __str__(self) -> str:
        return "\n".join(self.lines())


def why_waiting(
    status: Status,
    *,
    shared: bool = False,
    checking: int = 0,
    connecting_for: float | None = None,
    oldest_lease: float | None = None,
    held_by_others: int = 0,
    siblings: int = 0,
    pool_limit: int | None = None,
    silent: int = 0,
    last_error: BaseException | None = None,
    retry_in: float | None = None,
) -> str:
    """The reason why the first request in a manager's queue waits.

    If there are several, an operator's order (such as a pause) comes first. Otherwise it is the one
    that should end first: a check is shorter than a connect, and only the lessee ends a lease.

    @param shared: whether the status counts slots of shared connections.
    @param checking: number of idle connections in a check.
    @param connecting_for: seconds since the oldest attempt under way began, if known.
    @param oldest_lease: seconds since the oldest lease was given, if known.
    @param held_by_others: the part of the limit that other managers of the backend hold, in the
        unit of the status.
    @param siblings: number of other managers of the backend.
    @param pool_limit: the limit of the pool, if that is reached and the backend's own is not.
    @param silent: number of connections whose protocols report no slots now.
    @param last_error: the error of the last attempt to connect; C{None} if it succeeded.
    @param retry_in: seconds until the next attempt is due; C{None} or 0.0 if it may begin now.
    @return: one line; empty if the queue is empty.
    """
    if not status.waiting:
        return ""
    if status.state in _NOT_OPEN:
        return _NOT_OPEN[status.state]
    failed = "" if last_error is None else f"failed with {_error(last_error)}"
    if checking:
        are = "is" if checking == 1 else "are"
        return f"{_count(checking, 'idle connection')} {are} being checked"
    if status.connecting:
        since = "" if connecting_for is None else f" for {_s(connecting_for)}"
        return f"a connection is being made{since}" + (failed and f"; the attempt before {failed}")
    unit = "slot" if shared else "connection"
    oldest = _oldest(status.leased, oldest_lease)
    at_a_limit = _why_at_a_limit(status, unit, oldest, pool_limit, held_by_others)
    if at_a_limit:
        return at_a_limit
    if retry_in:
        after = failed and f", after the last {failed}"
        return f"the next attempt to connect is due in {_s(retry_in)}{after}"
    if silent:
        take = "takes" if silent == 1 else "take"
        return f"{_count(silent, 'connection')} {take} no lease now: the protocol reports no slots"
    if not status.unused:  # although not everything is leased
        return "a connection is being closed, and counts until it is gone"
    if siblings:
        return "another manager of the backend connects first"
    return "it was made just now, and is handled when the pool has finished its present work"


def _why_at_a_limit(
    status: Status, unit: str, oldest: str, pool_limit: int | None, held_by_others: int
) -> str:
    """Which limit is reached, and who has what it allows; empty if none is."""
    if not status.limit:
        return "no connection has slots now: its protocol reports none"
    if status.leased >= status.limit:
        every = f"all {status.leased} {unit}s are" if status.leased > 1 else f"the only {unit} is"
        return f"{every} leased{oldest}"
    own = f"; leased here: {status.leased}{oldest}" if status.leased else ""
    if pool_limit is not None:
        return f"the pool's limit of {pool_limit} connections is reached{own}"
    if held_by_others and not status.unused:
        return (
            f"the limit is shared: other idents of the backend hold {held_by_others} of its "
            f"{status.limit} {unit}s{own}"
        )
    if status.detached and not status.unused:
        keep = "keeps its slot" if status.detached == 1 else "keep their slots"
        return f"{_count(status.detached, 'detached connection')} {keep}{own}"
    return ""


def label(owner: object) -> str:
    """An owner's name for an operator: its class, the name of a service, and its C{id}.

    It never contains the owner's C{repr}, which may show a password or a request.
    """
    kind = type(owner)
    try:
        name = f" {owner.name!r}" if IService.providedBy(owner) and owner.name else ""
    except Exception:  # the owner's own code; it must not break an explanation
        name = ""
    return f"{kind.__module__}.{kind.__qualname__}{name} at {id(owner):#x}"


def _s(seconds: float) -> str:
    """Seconds with three digits, and never as 1e+03."""
    return f"{seconds:.3g} s" if seconds < 999 else f"{seconds:.0f} s"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _error(error: BaseException) -> str:
    """An error in one line of limited length."""
    return shorten(describe(error), _LONGEST_ERROR, placeholder=" ...")


def _oldest(number: int, oldest: float | None) -> str:
    """For how long the oldest of C{number} leases has been held."""
    of_several = "the oldest " if number > 1 else ""
    return "" if oldest is None else f", {of_several}for {_s(oldest)}"


def _owner(owner: str | None) -> str:
    return "" if owner is None else f", owner {owner}"


def _origin(verb: str, origin: str | None) -> str:
    return "" if origin is None else f", {verb} here:\n{indent(origin.rstrip(), '  ')}"


def _listed(texts: Iterable[str], total: int) -> Iterator[str]:
    for text in texts:
        yield indent(text, "    ")
    if total > _MOST:
        yield f"    and {total - _MOST} more"
