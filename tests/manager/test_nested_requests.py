"""Rule 12, on a clock: a request fails at once if its own owner holds everything it waits for."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from kolus import LeaseError
from kolus.manager.lease_tracker import LeaseTracker
from kolus.testing import NotFired, result_of
from tests.rigs.either import either
from tests.rigs.idents import Idents
from tests.rigs.pools import Pooled

modes = pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])


class Asking:
    """Requests of one owner after the other, at one manager."""

    def __init__(self, rig: Any) -> None:
        self.rig = rig
        self.owner: Deferred[None] = Deferred()

    def ask(self, owner: Any = None, timeout: float | None = None) -> Deferred[Any]:
        return self.rig.manager.connect("us", timeout, owner or self.owner)  # type: ignore[no-any-return]

    def outer(self) -> Any:
        return result_of(self.ask())

    def inner(self) -> Deferred[Any]:
        return self.ask()


def assert_waits(asked: Deferred[Any]) -> None:
    with pytest.raises(NotFired):
        result_of(asked)


@either
@modes
@pytest.mark.parametrize("limit", [1, 3])
def test_a_request_whose_owner_holds_everything_fails_with_both_places(
    rig_of: Any, debug: bool, limit: int
) -> None:
    asking = Asking(rig_of(limit=limit, debug=debug))
    leases = [asking.outer() for _ in range(limit)]
    with pytest.raises(LeaseError, match="can never serve this request") as caught:
        result_of(asking.inner())
    text = str(caught.value)
    made, taken = text.split("The leases were taken here:")
    assert "Asking.inner" in made or "Asking.ask" in made
    assert taken.count("test_nested_requests.py") >= limit
    assert f"Deferred at {id(asking.owner):#x}" in text
    assert asking.rig.numbers() == (0, limit, 0, 0, 0)
    for lease in leases:
        lease.release()
    result_of(asking.inner()).release()


@either
@modes
def test_a_request_that_becomes_hopeless_later_fails_then_with_both_places(
    rig_of: Any, debug: bool
) -> None:
    asking = Asking(rig_of(limit=2, debug=debug))
    anothers: Deferred[None] = Deferred()
    first, another = asking.outer(), result_of(asking.ask(anothers))
    second, third = asking.ask(), asking.ask()
    assert_waits(third)
    another.release()
    with pytest.raises(LeaseError, match="can never serve this request") as caught:
        result_of(third)
    made, taken = str(caught.value).split("The leases were taken here:")
    assert "test_nested_requests.py" in made
    assert taken.count("test_nested_requests.py") >= 2
    result_of(second).release()
    first.release()


@either
def test_others_behind_a_hopeless_request_are_served(rig_of: Any) -> None:
    asking = Asking(rig_of(limit=1))
    held, other = result_of(asking.ask(Deferred())), Deferred[None]()
    first, hopeless, patient = asking.ask(), asking.ask(), asking.ask(other)
    held.release()
    with pytest.raises(LeaseError, match="can never"):
        result_of(hopeless)
    result_of(first).release()
    result_of(patient).release()


@either
def test_who_releases_in_the_callback_is_not_hopeless(rig_of: Any) -> None:
    asking = Asking(rig_of(limit=1))
    held = result_of(asking.ask(Deferred()))
    served = [asking.ask().addCallback(lambda lease: lease.release()) for _ in range(5)]
    held.release()
    assert [result_of(each) for each in served] == [None] * 5


@either
def test_a_request_that_anothers_release_can_serve_waits(rig_of: Any) -> None:
    asking = Asking(rig_of(limit=2))
    mine, anothers = asking.outer(), asking.rig.lease()
    inner = asking.inner()
    assert_waits(inner)
    anothers.release()
    result_of(inner).release()
    mine.release()


@either
def test_a_request_for_which_a_connection_may_still_be_made_waits(rig_of: Any) -> None:
    asking = Asking(rig_of(limit=2))
    mine = asking.outer()
    asking.rig.fake.accept(after=1)
    inner = asking.inner()
    assert_waits(inner)
    asking.rig.clock.advance(1)
    result_of(inner).release()
    mine.release()


@either
@pytest.mark.parametrize("end", ["lost", "finished", "closing"])
def test_a_request_waits_for_the_slot_of_a_connection_that_has_ended(rig_of: Any, end: str) -> None:
    asking = Asking(rig_of(limit=1))
    mine = asking.outer()
    if end == "lost":
        asking.rig.fake.connections[0].reset()
    elif end == "closing":
        mine.protocol.transport.loseConnection()
    else:
        mine.finished()
    inner = asking.inner()
    asking.rig.turn()
    lease = result_of(inner)
    assert not lease.reused
    lease.release()


@either
def test_a_request_without_an_owner_waits_for_its_deadline(rig_of: Any) -> None:
    rig = rig_of(limit=1)
    held = rig.lease()
    waiting = rig.ask()
    assert_waits(waiting)
    held.release()
    result_of(waiting).release()


@either
def test_a_limit_that_shrinks_to_what_the_owner_holds_fails_its_request(rig_of: Any) -> None:
    asking = Asking(rig_of(limit=2))
    mine, anothers = asking.outer(), asking.rig.lease()
    inner = asking.inner()
    asking.rig.manager.resize(1)
    with pytest.raises(LeaseError, match="can never"):
        result_of(inner)
    mine.release()
    anothers.release()


@either
def test_a_limit_that_grows_lets_the_owner_nest(rig_of: Any) -> None:
    asking = Asking(rig_of(limit=1))
    mine = asking.outer()
    with pytest.raises(LeaseError, match="can never"):
        result_of(asking.inner())
    asking.rig.manager.resize(2)
    result_of(asking.inner()).release()
    mine.release()


@pytest.mark.parametrize("slots", [1, 3])
def test_an_owner_of_every_slot_is_told_as_well(slots: int) -> None:
    rig = Pooled(limit=1, slots=slots)
    owner: Deferred[None] = Deferred()
    backend = rig.backends[0]
    leases = [result_of(rig.pool.connect("us", backend, owner=owner)) for _ in range(slots)]
    with pytest.raises(LeaseError, match="can never serve"):
        result_of(rig.pool.connect("us", backend, owner=owner))
    with pytest.raises(LeaseError, match="can never serve"):
        result_of(rig.pool.select("us", [backend], owner=owner))
    assert rig.pool.try_connect("us", backend, owner=owner) is None
    result_of(rig.pool.connect("us", rig.backends[1], owner=owner)).release()
    for lease in leases:
        lease.release()


def test_an_owner_of_all_slots_but_one_may_wait_for_that() -> None:
    rig = Pooled(limit=1, slots=2)
    owner: Deferred[None] = Deferred()
    backend = rig.backends[0]
    mine = result_of(rig.pool.connect("us", backend, owner=owner))
    anothers = result_of(rig.pool.connect("us", backend))
    inner = rig.pool.connect("us", backend, owner=owner)
    assert_waits(inner)
    anothers.release()
    result_of(inner).release()
    mine.release()


def test_an_owner_of_a_slot_on_the_only_connection_that_was_finished_is_told() -> None:
    rig = Pooled(limit=1, slots=2)
    owner: Deferred[None] = Deferred()
    backend = rig.backends[0]
    mine = result_of(rig.pool.connect("us", backend, owner=owner))
    result_of(rig.pool.connect("us", backend)).finished()
    with pytest.raises(LeaseError, match="can never serve"):
        result_of(rig.pool.connect("us", backend, owner=owner))
    mine.release()


def test_a_request_becomes_hopeless_as_the_only_connection_is_finished_by_another() -> None:
    rig = Pooled(limit=1, slots=2)
    owner: Deferred[None] = Deferred()
    backend = rig.backends[0]
    mine = result_of(rig.pool.connect("us", backend, owner=owner))
    anothers = result_of(rig.pool.connect("us", backend))
    inner = rig.pool.connect("us", backend, owner=owner)
    anothers.finished()
    with pytest.raises(LeaseError, match="can never serve"):
        result_of(inner)
    mine.release()


@pytest.mark.parametrize("others", [0, 20])
def test_an_owner_that_holds_the_limit_by_several_idents_cannot_wait_whoever_else_does(
    others: int,
) -> None:
    rig = Idents("separate")
    owner: Deferred[None] = Deferred()
    leases = [result_of(rig.pool.connect(each, rig.backend, owner=owner)) for each in "ab"]
    waiting = [rig.ask(f"other {number}") for number in range(others)]
    with pytest.raises(LeaseError, match="can never serve this request"):
        result_of(rig.pool.connect("c", rig.backend, owner=owner))
    leases.pop().release()
    rig.turn()
    if waiting:  # somebody else has a connection now
        asked = rig.pool.connect("c", rig.backend, owner=owner)
        assert_waits(asked)
        asked.addErrback(lambda _: None).cancel()
    for each in waiting:
        each.addCallbacks(lambda lease: lease.release(), lambda _: None)
    leases.pop().release()
    for _ in range(2 * others):
        rig.turn()
    assert all(each.called for each in waiting)
    rig.end()


@either
def test_of_many_places_where_the_leases_were_taken_a_few_are_told(rig_of: Any) -> None:
    asking = Asking(rig_of(limit=50))
    leases = [asking.outer() for _ in range(50)]
    with pytest.raises(LeaseError) as caught:
        result_of(asking.inner())
    assert len(leases) == 50
    assert len(str(caught.value).splitlines()) < 20
    assert str(caught.value).endswith("and 40 more")


@either
def test_a_hand_off_to_an_owner_that_waits_for_nothing_else_looks_at_none_of_its_leases(
    rig_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = Asking(rig_of(limit=50))
    held, other = [asking.outer() for _ in range(49)], result_of(asking.ask(Deferred()))
    asked = asking.inner()
    looks: list[object] = []
    monkeypatch.setattr(LeaseTracker, "deadlock", lambda *_: looks.append(None))
    other.release()
    assert result_of(asked).held
    assert len(held) == 49
    assert not looks
