"""What C{pool.explain()} tells: who holds what, who waits and why, as values and as a text.

The values are complete. The text, which is C{str()} of them, is for an operator: of each manager
it spells out the oldest leases and the first requests, and counts the rest.
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

_MOST = 20  # leases, and requests, that are spelled out per manager
_LONGEST_ERROR = 300  # characters: the message of an error may be a whole page

_NOT_OPEN = {
    State.ABSENT: "no manager runs",
    State.PAUSED: "the manager is paused: it gives no leases until it is resumed",
    State.DRAINING: "the manager is draining: it gives no new leases",
    State.CLOSED: "the manager is closed",
}


@dataclass(frozen=True, slots=True)
class LeaseExplanation:
    """A lease that is out, or a connection in a check or a reset before or after one."""

    held: float
    """Seconds since it was given."""
    uses: int
    """How many leases its connection has had, this one included."""
    owner: str | None
    """Whose it is, if it has an owner: see L{label}."""
    origin: str | None
    """Where it was taken, if that is known; may have several lines."""
    doing: str = "leased"
    """C{"leased"}, C{"in a check"} or C{"in a reset"}."""

    def __str__(self) -> str:
        facts = f"{self.doing} for {_s(self.held)}, use {self.uses} of its connection"
        return facts + _owner(self.owner) + _origin("taken", self.origin)


@dataclass(frozen=True, slots=True)
class WaiterExplanation:
    """A request in the queue."""

    position: int
    """Its place in the queue; 1 is served next."""
    why: str
    """What it waits for."""
    waited: float
    """Seconds since it was made."""
    deadline_in: float | None
    """Seconds until it fails; C{None} if it has no deadline."""
    owner: str | None
    """Whose it is, if it has an owner: see L{label}."""
    origin: str | None
    """Where it was made, if that is known; may have several lines."""

    def __str__(self) -> str:
        return self._text(self.why)

    def _text(self, why: str) -> str:
        until = "no deadline" if self.deadline_in is None else f"fails in {_s(self.deadline_in)}"
        facts = f"{self.position}. for {_s(self.waited)}, {until}{_owner(self.owner)}"
        return facts + (f": {why}" if why else "") + _origin("made", self.origin)


@dataclass(frozen=True, slots=True)
class ManagerExplanation:
    """One manager: its numbers, its leases, its queue, and how connecting goes."""

    status: Status
    waiters: tuple[WaiterExplanation, ...]
    """The queue, the oldest request first."""
    leases: tuple[LeaseExplanation, ...]
    """What is out, in any order."""
    last_error: BaseException | None
    """What the last attempt to connect failed with; C{None} if it succeeded."""
    retry_in: float | None
    """Seconds until the next attempt is due; C{None} if it may be made at once."""
    why: str
    """The one reason why the first request waits; empty if none does."""

    @classmethod
    def absent(cls, status: Status, last_error: BaseException) -> ManagerExplanation:
        """A backend that has no manager any more, and could not be reached when it had."""
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
            # The reason stands in the line above; only another one needs to be said.
            others = (each._text(each.why if each.why != self.why else "") for each in self.waiters)
            yield from _listed(islice(others, _MOST), len(self.waiters))

    def _connects(self) -> Iterator[str]:
        if self.last_error is not None:
            due = f"is due in {_s(self.retry_in)}" if self.retry_in else "may be made at once"
            yield f"  the last attempt to connect failed: {_error(self.last_error)}"
            yield f"  the next attempt {due}"


@dataclass(frozen=True, slots=True)
class PoolExplanation:
    """All managers of a pool."""

    managers: tuple[ManagerExplanation, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.managers)) or "no manager runs"


def why_waiting(
    status: Status,
    *,
    shared: bool = False,
    checking: int = 0,
    connecting_for: float | None = None,
    oldest_lease: float | None = None,
    held_by_others: int = 0,
    siblings: int = 0,
    silent: int = 0,
    last_error: BaseException | None = None,
    retry_in: float | None = None,
) -> str:
    """The one reason why the first request in a manager's queue waits.

    What an operator ordered comes first. Of other reasons it is the one that should be over
    first: a check takes less than a connect, and when a lease ends is up to its lessee.

    @param shared: whether the status counts slots on shared connections.
    @param checking: how many idle connections are in a check.
    @param connecting_for: seconds since the oldest attempt under way was begun, if known.
    @param oldest_lease: seconds since the oldest lease was given, if known.
    @param held_by_others: how much of the limit the backend's other managers hold, in what the
        status counts.
    @param siblings: how many other managers the backend has.
    @param silent: how many connections carry no lease now, as their protocols say.
    @param last_error: what the last attempt to connect failed with; C{None} if it succeeded.
    @param retry_in: seconds until the next attempt is due; C{None} or 0.0 if it may be made now.
    @return: one line; empty if nobody waits.
    """
    unit = "slot" if shared else "connection"
    failed = "" if last_error is None else f"failed with {_error(last_error)}"
    oldest = _oldest(status.leased, oldest_lease)
    if not status.waiting:
        return ""
    if status.state in _NOT_OPEN:
        return _NOT_OPEN[status.state]
    if checking:
        are = "is" if checking == 1 else "are"
        return f"{_count(checking, 'idle connection')} {are} being checked"
    if status.connecting:
        since = "" if connecting_for is None else f" for {_s(connecting_for)}"
        return f"a connection is being made{since}" + (failed and f"; the attempt before {failed}")
    if not status.limit:
        return "no connection has slots now, as its protocol says"
    if status.leased >= status.limit:
        every = f"all {status.leased} {unit}s are" if status.leased > 1 else f"the only {unit} is"
        return f"{every} leased{oldest}"
    if held_by_others and not status.unused:
        own = f"; leased here: {status.leased}{oldest}" if status.leased else ""
        return (
            f"the limit is shared: other idents of the backend hold {held_by_others} of its "
            f"{status.limit} {unit}s{own}"
        )
    if retry_in:
        after = failed and f", after the last {failed}"
        return f"the next attempt to connect is due in {_s(retry_in)}{after}"
    if silent:
        carry = "carries" if silent == 1 else "carry"
        return f"{_count(silent, 'connection')} {carry} no lease now, as the protocol says"
    if not status.unused:  # and yet not all is leased, here or elsewhere
        return "a connection is being closed, and counts until it is gone"
    if siblings:
        return "another manager of the backend connects first"
    return "it was made just now, and is looked at when the pool is done with what it does"


def label(owner: object) -> str:
    """What an operator may read of an owner: its class, a service's name, and which it is.

    Never its C{repr}, which may show a password or a request.
    """
    kind = type(owner)
    try:
        name = f" {owner.name!r}" if IService.providedBy(owner) and owner.name else ""
    except Exception:  # the owner's own code, which is not to be heard of here
        name = ""
    return f"{kind.__module__}.{kind.__qualname__}{name} at {id(owner):#x}"


def _s(seconds: float) -> str:
    """Three digits, and never as 1e+03."""
    return f"{seconds:.3g} s" if seconds < 999 else f"{seconds:.0f} s"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _error(error: BaseException) -> str:
    """In one line, whatever it says."""
    return shorten(describe(error), _LONGEST_ERROR, placeholder=" ...")


def _oldest(number: int, oldest: float | None) -> str:
    """Since when the oldest of so many is out."""
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
