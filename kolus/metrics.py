"""C{Metrics}: an observer that counts events, per backend and in total.

Its state is one C{Counts} for each backend that had events lately, the latest last; one C{Counts}
for all backends that were dropped; and how many these are. Only events change it. The total is the
sum of all these counts.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from kolus.backend import AnyBackend, Backend
from kolus.events import (
    Admitted,
    Cancelled,
    Connected,
    ConnectFailure,
    Detached,
    Ejected,
    Event,
    Finished,
    Forgotten,
    Leased,
    Lost,
    Overdue,
    Paused,
    ProbeDue,
    Recovered,
    Rejection,
    Released,
    Resized,
    Resumed,
    Retired,
    Revoked,
    Settled,
    TimedOut,
)
from kolus.support import check_whole

__all__ = ["Counts", "Metrics"]


@dataclass(slots=True)
class Counts:
    """What happened at one backend, or at several together.

    @ivar connects: connections that were made and are ready to use.
    @ivar connect_failures: attempts to connect that gave no usable connection.
    @ivar closes: connections that have ended, by the value of their C{Why}; C{"lost"} if the pool
        did not end them.
    @ivar recoveries: connects that succeeded when the one before had failed.
    @ivar leases: leases given.
    @ivar waits: leases whose request was in the queue, even if it was served in the same instant.
    @ivar waited: seconds that these requests waited, added up.
    @ivar longest_wait: seconds of the longest wait.
    @ivar releases: leases settled with C{release()}.
    @ivar finishes: leases settled with C{finished()}.
    @ivar forgotten: leases that nobody settled, reclaimed when nobody referred to them any more.
    @ivar revoked: leases that were held for longer than the policy allows.
    @ivar detached: leases whose connection left the pool.
    @ivar unclean: leases that were released with something under way; they count as finished, too.
    @ivar overdue: leases that were held for longer than C{leak_after}, settled since or not.
    @ivar held_for: seconds that settled leases were held, added up.
    @ivar longest_held: seconds of the settled lease that was held longest.
    @ivar timeouts: requests that were not served before their deadline.
    @ivar cancels: requests that were cancelled while they waited.
    @ivar rejections: requests that were refused at once, by the name of the error's class.
    @ivar pauses: how often a manager was paused.
    @ivar resumes: how often a manager was resumed.
    @ivar resizes: how often a manager had another limit.
    @ivar ejections: how often the backend was ejected.
    @ivar probes: how often a probe of an ejected backend became due.
    @ivar admissions: how often it was admitted again.
    @ivar others: events of classes that this module does not know, by the name of the class.
    """

    connects: int = 0
    connect_failures: int = 0
    closes: Counter[str] = field(default_factory=Counter)
    recoveries: int = 0
    leases: int = 0
    waits: int = 0
    waited: float = 0.0
    longest_wait: float = 0.0
    releases: int = 0
    finishes: int = 0
    forgotten: int = 0
    revoked: int = 0
    detached: int = 0
    unclean: int = 0
    overdue: int = 0
    held_for: float = 0.0
    longest_held: float = 0.0
    timeouts: int = 0
    cancels: int = 0
    rejections: Counter[str] = field(default_factory=Counter)
    pauses: int = 0
    resumes: int = 0
    resizes: int = 0
    ejections: int = 0
    probes: int = 0
    admissions: int = 0
    others: Counter[str] = field(default_factory=Counter)

    @property
    def open(self) -> int:
        """Connections that are open now, idle or leased."""
        return self.connects - self.closes.total() - self.detached

    @property
    def held(self) -> int:
        """Leases that are not settled yet."""
        settled = self.releases + self.finishes + self.forgotten + self.revoked + self.detached
        return self.leases - settled

    def add(self, other: Counts) -> None:
        """Add the counts of C{other} to these."""
        for each in fields(self):
            mine, others = getattr(self, each.name), getattr(other, each.name)
            is_longest = each.name.startswith("longest")
            setattr(self, each.name, max(mine, others) if is_longest else mine + others)

    def snapshot(self) -> dict[str, Any]:
        """All counts, C{open} and C{held} too, as plain numbers and dicts of numbers."""
        plain: dict[str, Any] = {"open": self.open, "held": self.held}
        for each in fields(self):
            value = getattr(self, each.name)
            plain[each.name] = dict(value) if isinstance(value, Counter) else value
        return plain


class Metrics:
    """Counts every event that it is called with: C{Pool(..., observers=[metrics])}.

    Backends may come and go under new addresses for ever, so not all of them are kept. When a new
    backend comes and there are C{most} already, those without events for longest are dropped: what
    they counted stays in the total only. A backend with open connections or leases is never
    dropped. So while many are in use, more than C{most} may be kept.

    @ivar dropped: how many backends were dropped; 0 until the limit was reached. A dropped backend
        that has events again begins at zero, and counts again if it is dropped again.
    """

    def __init__(self, most: int = 1000) -> None:
        """
        @param most: how many backends are kept, unless many are in use.
        @raise ValueError: C{most} is no whole number of at least 1.
        """
        check_whole("most", most, 1)
        self.dropped = 0
        self._most = most
        self._backends: OrderedDict[Backend, Counts] = OrderedDict()
        self._of_dropped = Counts()

    def __call__(self, event: Event) -> None:
        backends, backend = self._backends, event.backend
        counts = backends.get(backend)
        if counts is None:
            self._make_room()
            counts = backends[backend] = Counts()
        else:
            backends.move_to_end(backend)
        _COUNT.get(type(event), _count_other)(counts, event)

    def _make_room(self) -> None:
        """Drop backends before another comes.

        Two are looked at for each that comes, whatever becomes of them. So this takes no longer
        when many are in use, and what is too many is dropped when they no longer are.
        """
        for _ in range(2):
            if len(self._backends) < self._most:
                return
            backend, counts = self._backends.popitem(last=False)
            if counts.open > 0 or counts.held > 0:
                self._backends[backend] = counts
            else:
                self._of_dropped.add(counts)
                self.dropped += 1

    def of(self, backend: AnyBackend) -> Counts:
        """What happened at one backend so far.

        @return: a copy; all zero if nothing happened, or if the backend was dropped.
        """
        counts = self._backends.get(Backend.of(backend))
        return _sum([] if counts is None else [counts])

    def total(self) -> Counts:
        """What happened at all backends so far, dropped ones included."""
        return _sum([*self._backends.values(), self._of_dropped])

    def snapshot(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dicts, ready for JSON.

        @return: C{"total"} is the snapshot of the total. C{"backends"} is a list of the snapshots
            of the backends that are kept, the one with the latest event last, each with
            C{"backend"}, its name, which need not be unique. C{"dropped"} is how many were dropped.
        """
        backends = [
            {"backend": str(backend)} | counts.snapshot()
            for backend, counts in self._backends.items()
        ]
        return {"total": self.total().snapshot(), "backends": backends, "dropped": self.dropped}


def _sum(them: Iterable[Counts]) -> Counts:
    total = Counts()
    for each in them:
        total.add(each)
    return total


def _one_more(name: str) -> Callable[[Counts, Any], None]:
    def count(counts: Counts, event: Event) -> None:
        setattr(counts, name, getattr(counts, name) + 1)

    return count


def _one_settled(name: str) -> Callable[[Counts, Any], None]:
    count = _one_more(name)

    def count_settled(counts: Counts, event: Settled) -> None:
        count(counts, event)
        counts.held_for += event.held
        counts.longest_held = max(counts.longest_held, event.held)

    return count_settled


def _count_lease(counts: Counts, event: Leased) -> None:
    counts.leases += 1
    if event.queued or event.waited:
        counts.waits += 1
        counts.waited += event.waited
        counts.longest_wait = max(counts.longest_wait, event.waited)


_count_finish = _one_settled("finishes")


def _count_finished(counts: Counts, event: Finished) -> None:
    _count_finish(counts, event)
    counts.unclean += event.unclean


def _count_rejection(counts: Counts, event: Rejection) -> None:
    counts.rejections[type(event.reason).__name__] += 1


def _count_loss(counts: Counts, event: Lost) -> None:
    counts.closes["lost"] += 1


def _count_retired(counts: Counts, event: Retired) -> None:
    counts.closes[event.why.value] += 1


def _count_other(counts: Counts, event: Event) -> None:
    counts.others[type(event).__name__] += 1


_COUNT: dict[type[Event], Callable[[Counts, Any], None]] = {
    Admitted: _one_more("admissions"),
    Cancelled: _one_more("cancels"),
    Connected: _one_more("connects"),
    ConnectFailure: _one_more("connect_failures"),
    Detached: _one_settled("detached"),
    Ejected: _one_more("ejections"),
    Finished: _count_finished,
    Forgotten: _one_settled("forgotten"),
    Leased: _count_lease,
    Lost: _count_loss,
    Overdue: _one_more("overdue"),
    Paused: _one_more("pauses"),
    ProbeDue: _one_more("probes"),
    Recovered: _one_more("recoveries"),
    Rejection: _count_rejection,
    Released: _one_settled("releases"),
    Resized: _one_more("resizes"),
    Resumed: _one_more("resumes"),
    Retired: _count_retired,
    Revoked: _one_settled("revoked"),
    TimedOut: _one_more("timeouts"),
}
