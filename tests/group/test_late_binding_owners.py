"""Rule 30 with owners: the end of an owner ends its requests, and no owner waits for itself."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred

from kolus import LeaseError
from kolus.manager.waiting.deadlock import Deadlocks
from kolus.testing import result_of
from tests.rigs.groups import Grouped


def test_an_owner_that_ends_ends_its_request_wherever_it_waits() -> None:
    rig = Grouped(2)
    rig.fill()
    owner: Deferred[None] = Deferred()
    asked = rig.ask(owner=owner)
    owner.callback(None)
    with pytest.raises(CancelledError):
        result_of(asked)
    assert rig.waiting() == [0, 0]


def test_a_lease_given_by_another_backend_ends_with_its_owner() -> None:
    rig = Grouped(2)
    leases = rig.fill()
    owner: Deferred[None] = Deferred()
    asked = rig.ask(owner=owner)
    leases["b"].release()
    lease = result_of(asked)
    owner.callback(None)
    assert not lease.held


def test_an_owner_that_holds_all_of_all_backends_is_told_at_once() -> None:
    rig = Grouped(2)
    owner: Deferred[None] = Deferred()
    leases = [rig.lease(owner=owner) for _ in range(2)]
    with pytest.raises(LeaseError, match="holds"):
        rig.lease(owner=owner)
    leases[0].release()
    rig.lease(owner=owner).release()


def test_an_owner_that_comes_to_hold_all_of_all_backends_is_told_then() -> None:
    rig = Grouped(2)
    owner: Deferred[None] = Deferred()
    mine, other = rig.lease(owner=owner), rig.lease()
    asked = [rig.ask(owner=owner) for _ in range(2)]
    other.release()
    assert mine.held
    assert asked[0].called
    with pytest.raises(LeaseError, match="holds"):
        result_of(asked[1])


def test_a_request_that_leaves_when_another_of_its_owner_fails_is_in_nobodys_way() -> None:
    rig = Grouped(2)
    owner: Deferred[None] = Deferred()
    mine, other = rig.lease(owner=owner), rig.lease()
    asked = [rig.ask(owner=owner) for _ in range(3)]
    asked[1].addErrback(lambda failure: asked[2].cancel())
    other.release()
    assert mine.held
    assert asked[0].called
    with pytest.raises(CancelledError):
        result_of(asked[2])


def test_an_owner_that_holds_all_of_one_backend_waits_for_the_others() -> None:
    rig = Grouped(2)
    owner: Deferred[None] = Deferred()
    mine, other = rig.lease(owner=owner), rig.lease()
    asked = rig.ask(owner=owner)
    other.release()
    assert asked.called
    mine.release()


def test_where_an_owner_does_not_hold_everything_is_found_without_a_look_at_all_backends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig, owner = Grouped(8), Deferred[None]()
    held = [rig.lease(owner=owner) for _ in range(7)]
    other = rig.lease()
    first = rig.ask(owner=owner)
    looks: list[object] = []
    find = Deadlocks.find
    monkeypatch.setattr(Deadlocks, "find", lambda *what: (looks.append(None), find(*what))[1])
    second = rig.ask(owner=owner)
    assert [each.called for each in (first, second)] == [False, False]
    assert len(held) == 7
    assert other.held
    assert len(looks) <= 2
