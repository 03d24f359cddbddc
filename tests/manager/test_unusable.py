"""An unusable backend counts as one that cannot serve: the error names it, and others serve."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import (
    Backend,
    ConnectFailed,
    ConnectionManager,
    Ejection,
    IKolusManager,
    LeaseTimeout,
    Policy,
    Pool,
)
from kolus.backoff import Backoff, Rng
from kolus.balance import Balancer, fill_first, round_robin
from kolus.events import ConnectFailure, Ejected, Event
from kolus.testing import FakeBackend, result_of
from kolus.testing.results import failure_of
from tests.rigs.pools import Half, Pooled

UNUSABLE = Backend("tls:nowhere")
TYPO = "192.0.2.1:6379"


class Mixed:
    """Two backends that obey, and a group of them and one that no endpoint can be made of."""

    def __init__(self, order: str, balancer: Balancer = fill_first, **policy: Any) -> None:
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(2)]
        self.known = {"x": UNUSABLE}
        self.known |= {
            name: Backend(fake, name=name) for name, fake in zip("ab", self.fakes, strict=True)
        }
        self.events: list[Event] = []
        self.heard: Callable[[Any], object] = lambda event: None
        self.pool: Pool[Any] = Pool(
            *(self.clock, Protocol),
            policy=Policy(**policy),
            observers=[self.events.append, lambda event: self.heard(event)],
            rng=Half(),
        )
        self.group = self.pool.group([self.known[each] for each in order], balancer)

    def refuse_others(self, ident: str) -> None:
        """Let no managers be made for others."""
        make = self.pool._managers._make

        def make_for_one(backend: Backend, asked: Hashable) -> Any:
            if asked != ident:
                raise ValueError("not for them")
            return make(backend, asked)

        self.pool._managers._make = make_for_one


class Shrinking(Backoff):
    """As chance may have it, the second pause is the shorter one."""

    def delay(self, failures: int, rng: Rng) -> float:
        return 1.0 / failures


def test_a_group_serves_although_one_backend_cannot_be_made() -> None:
    rig = Mixed("axb", round_robin())
    leases = [result_of(rig.group.connect("us")) for _ in range(6)]
    assert {str(each.backend) for each in leases} == {"a", "b"}


def test_a_backend_that_cannot_be_made_counts_as_an_attempt_that_failed() -> None:
    rig = Mixed("xa", ejection=Ejection(failures=2))
    for _ in range(2):
        result_of(rig.group.connect("us"))
        rig.clock.advance(1)
    failures = [each for each in rig.events if isinstance(each, ConnectFailure)]
    assert [each.backend for each in failures] == [UNUSABLE] * 2
    assert [each.backend for each in rig.events if isinstance(each, Ejected)] == [UNUSABLE]
    assert rig.pool.counters(UNUSABLE).connect_failures == 2


def test_a_group_of_backends_that_cannot_be_made_says_why_at_once() -> None:
    rig = Mixed("x")
    error = failure_of(ConnectFailed, rig.group.connect("us"))
    assert "not a client endpoint string: 'tls:nowhere'" in str(error)
    assert error.retry_in > 0
    assert list(error.tried) == [UNUSABLE]


def test_one_that_cannot_be_made_is_named_when_the_rest_fail_too() -> None:
    rig = Mixed("xa")
    rig.fakes[0].refuse(always=True)
    error = failure_of(ConnectFailed, rig.group.connect("us"))
    assert list(error.tried) == [UNUSABLE, rig.known["a"]]


def test_a_retry_finds_that_a_backend_cannot_be_made() -> None:
    rig = Mixed("axb")
    rig.fakes[0].refuse(after=0.1, always=True)
    asked = rig.group.connect("us", timeout=1)
    rig.clock.pump([0.1] * 5)
    assert str(result_of(asked).backend) == "b"


def test_a_request_ends_though_its_retry_cannot_be_made() -> None:
    rig = Mixed("ax")
    rig.fakes[0].refuse(after=0.1, always=True)
    asked = rig.group.connect("us", timeout=1)
    rig.clock.pump([0.1] * 5)
    error = failure_of(ConnectFailed, asked)
    assert list(error.tried) == [rig.known["a"], UNUSABLE]


def test_a_probe_that_cannot_be_made_leaves_its_request_what_is_idle_elsewhere() -> None:
    rig = Mixed("xab", ejection=Ejection(failures=1, first=1.0))
    held = result_of(rig.group.connect("us"))
    assert held.backend is rig.known["a"]
    result_of(rig.pool.connect("us", rig.known["b"])).release()
    rig.clock.advance(2)
    rig.fakes[0].never_answer()
    lease = result_of(rig.group.connect("us"))
    assert lease.backend is rig.known["b"]
    assert rig.pool.counters(UNUSABLE).connect_failures == 2


def test_without_a_pause_one_that_cannot_be_made_is_tried_once_for_a_request() -> None:
    rig = Mixed("ax", backoff=None)
    rig.fakes[0].refuse(after=0.1, always=True)
    asked = rig.group.connect("us", timeout=1)
    rig.clock.pump([0.1] * 5)
    assert list(failure_of(ConnectFailed, asked).tried) == [rig.known["a"], UNUSABLE]
    assert rig.pool.counters(UNUSABLE).connect_failures == 1


def test_who_waits_is_not_lost_to_a_backend_that_cannot_be_made() -> None:
    rig = Mixed("ax", limit=1)
    held = result_of(rig.group.connect("us"))
    asked = [rig.group.connect("us", timeout=3) for _ in range(3)]
    rig.clock.pump([0.1] * 10)
    held.release()
    held = result_of(asked[0])
    rig.clock.advance(3)
    for each in asked[1:]:
        assert UNUSABLE in failure_of(LeaseTimeout, each).tried


def test_who_waits_moves_on_from_where_none_can_be_made_for_another_ident() -> None:
    rig = Mixed("ab", idents="separate")
    rig.fakes[0].never_answer()
    asked = rig.group.connect("us")
    rig.refuse_others("us")
    failure_of(ConnectFailed, rig.group.connect("them", exclude=[rig.known["b"]]))
    assert str(result_of(asked).backend) == "b"


def test_who_waits_is_connected_for_when_an_attempt_is_due_after_another_idents() -> None:
    rig = Mixed("a", idents="separate", fail_fast=False, backoff=Shrinking())
    rig.fakes[0].refuse()
    asked = rig.group.connect("us")
    rig.refuse_others("us")
    failure_of(ConnectFailed, rig.group.connect("them"))
    rig.clock.advance(0.5)
    assert str(result_of(asked).backend) == "a"


def test_who_hears_that_one_cannot_be_made_may_cancel_who_waits() -> None:
    rig = Mixed("ax")
    rig.fakes[0].refuse(after=0.1, always=True)
    asked = rig.group.connect("us", timeout=1)
    rig.heard = lambda event: asked.cancel() if event.backend == UNUSABLE else None
    rig.clock.pump([0.1] * 12)
    failure_of(CancelledError, asked)
    assert rig.group.status().waiting == 0


def test_who_hears_that_one_cannot_be_made_may_cancel_who_is_moved_there() -> None:
    rig = Mixed("ax", limit=1)
    held = result_of(rig.group.connect("us"))
    asked = rig.group.connect("us")
    rig.heard = lambda event: asked.cancel() if event.backend == UNUSABLE else None
    rig.clock.advance(1)
    other = rig.pool.connect("us", rig.known["a"])  # then it looks who else has room
    failure_of(CancelledError, asked)
    assert rig.group.status().waiting == 0
    held.release()
    result_of(other)


def test_why_one_cannot_be_made_keeps_nothing_of_whoever_asked() -> None:
    class Theirs:
        """Something of a caller's."""

    def ask() -> weakref.ref[Theirs]:
        theirs = Theirs()
        rig.group.connect("us").addErrback(lambda failure: None)
        return weakref.ref(theirs)

    rig = Mixed("x")
    theirs = ask()
    gc.collect()
    assert theirs() is None


@pytest.mark.parametrize("backoff", [None, Backoff()])
def test_a_slot_that_is_about_to_be_free_is_waited_for(backoff: Any) -> None:
    rig = Mixed("ab", limit=1, backoff=backoff)
    rig.fakes[1].refuse(always=True)
    result_of(rig.group.connect("us")).finished()
    asked = rig.group.connect("us")
    rig.clock.pump([0, 0])
    assert result_of(asked).backend == rig.known["a"]


@pytest.mark.parametrize("backoff", [None, Backoff()])
def test_a_slot_that_is_about_to_be_free_is_not_waited_for_where_there_is_room(
    backoff: Any,
) -> None:
    rig = Mixed("a", limit=2, backoff=backoff)
    held = result_of(rig.group.connect("us"))
    rig.fakes[0].refuse(always=True)
    held.finished()
    failure_of(ConnectFailed, rig.group.connect("us"))


def test_a_slot_that_a_failed_attempt_frees_is_not_waited_for_again_and_again() -> None:
    def prepare(protocol: Protocol) -> None:
        raise RuntimeError("no use")

    rig = Mixed("a", limit=1, backoff=None, prepare=prepare)
    asked = rig.pool.group([rig.known["a"]], fill_first).connect("us", timeout=5)
    rig.clock.pump([0] * 9)
    failure_of(ConnectFailed, asked)
    assert rig.fakes[0].attempts == 1


def test_a_probe_of_one_that_cannot_be_made_fails() -> None:
    async def probe(protocol: Protocol) -> None: ...

    rig = Mixed("xa", probe=probe, ejection=Ejection(failures=1, first=1.0))
    result_of(rig.group.connect("us"))
    rig.clock.pump([1] * 3)
    ejected = [each.reason for each in rig.events if isinstance(each, Ejected)]
    assert len(ejected) > 1
    assert "a probe failed" in ejected[1]


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_make_manager_that_raises_for_one_backend_leaves_the_others(first: str) -> None:
    rig = Pooled()

    def make(backend: Backend, ident: Any) -> IKolusManager:
        if str(backend) == first:
            raise OSError("too many open files")
        return ConnectionManager(rig.clock, Protocol, backend, ident)

    pool: Pool[Any] = Pool(rig.clock, Protocol, make_manager=make)
    rig.fakes[0].refuse(after=0.1, always=True)
    rig.fakes[1].refuse(after=0.1, always=True)
    asked = pool.group(rig.backends[:2], fill_first).connect("us", timeout=1)
    rig.clock.pump([0.1] * 5)
    error = failure_of(ConnectFailed, asked)
    assert {str(each) for each in error.tried} == {"a", "b"}
    assert "OSError: too many open files" in str(error)


# Lists: a string is parsed when it is looked at


def test_a_retry_finds_that_a_string_is_no_backend() -> None:
    rig = Pooled()
    rig.fakes[0].refuse(after=0.1, always=True)
    listed = [rig.backends[0], TYPO, rig.backends[1]]
    asked = rig.pool.select("us", listed, fill_first, timeout=1)
    rig.clock.pump([0.1] * 3)
    assert result_of(asked).backend == rig.backends[1]


def test_a_request_ends_though_its_retry_is_no_backend() -> None:
    rig = Pooled()
    rig.fakes[0].refuse(after=0.1, always=True)
    asked = rig.pool.select("us", [rig.backends[0], TYPO], fill_first, timeout=1)
    rig.clock.pump([0.1] * 3)
    error = failure_of(ConnectFailed, asked)
    assert list(error.tried) == [rig.backends[0], TYPO]
    assert f"nor to {TYPO}: ValueError: not a client endpoint string" in str(error)


def test_a_slow_connect_looks_past_a_string_that_is_no_backend() -> None:
    rig = Pooled()
    rig.fakes[0].never_answer(always=True)
    asked = rig.pool.select("us", [rig.backends[0], TYPO], fill_first, timeout=2)
    rig.clock.pump([0.1] * 30)
    assert TYPO in failure_of(LeaseTimeout, asked).tried


def test_a_list_that_changes_while_a_request_waits_is_no_matter() -> None:
    rig = Pooled()
    rig.fakes[0].refuse(after=0.1, always=True)
    listed = rig.backends[:2]
    asked = rig.pool.select("us", listed, fill_first, timeout=1)
    listed.clear()
    rig.clock.pump([0.1] * 3)
    assert result_of(asked).backend == rig.backends[1]


def test_a_balancer_that_breaks_while_a_request_is_retried_costs_only_its_choice(
    logged_failures: Any,
) -> None:
    class Breaks:
        broken = False

        def __call__(self, statuses: Any) -> Any:
            if self.broken:
                raise ArithmeticError
            return statuses[0]

        def __repr__(self) -> str:
            raise RuntimeError("broken")

    rig, balancer = Mixed("ab"), Breaks()
    rig.fakes[0].refuse(after=0.1, always=True)
    asked = rig.group.connect("us", balancer=balancer)
    balancer.broken = True
    rig.clock.pump([0.1, 0])
    assert result_of(asked).backend == rig.known["b"]
    assert len(logged_failures.flush(ArithmeticError)) == 1
    assert len(logged_failures.flush(RuntimeError)) == 1
