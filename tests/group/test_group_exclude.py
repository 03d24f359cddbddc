"""A group's request with C{exclude} behaves like the group's other requests otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from kolus import Closed, ConnectFailed, Draining, NoBackend
from kolus.balance import Balancer
from kolus.testing import result_of
from tests.rigs.groups import Sourced, names


class Full(Sourced):
    """A group of two backends with a lease out at each."""

    def __init__(self) -> None:
        super().__init__("ab")
        self.held = [self.at("a"), self.at("b")]


def sticky() -> Balancer:
    """A balancer that chooses what it chose first, whatever it may choose from."""
    kept: list[Any] = []

    def choose(statuses: Any) -> Any:
        kept.append(statuses[0])
        return kept[0]

    return choose


def test_a_backend_that_joins_serves_it() -> None:
    rig = Full()
    asked = rig.ask(exclude=[rig.known["a"]])
    rig.tell("abc")
    assert names([result_of(asked)]) == "c"


def test_one_that_joins_and_is_excluded_does_not() -> None:
    rig = Full()
    asked = rig.ask(exclude=[rig.known["a"], rig.known["c"]])
    rig.tell("abc")
    rig.clock.advance(1)
    assert rig.fake("c").attempts == 0
    rig.tell("abcd")
    assert names([result_of(asked)]) == "d"


def test_where_its_backend_is_replaced_the_new_one_serves_it() -> None:
    rig = Full()
    asked = rig.ask(exclude=[rig.known["a"]])
    rig.tell("ac")
    assert names([result_of(asked)]) == "c"


def test_where_nothing_is_left_it_fails_at_once() -> None:
    rig = Full()
    asked = rig.ask(exclude=[rig.known["a"]])
    rig.tell("a")
    with pytest.raises(Draining, match="b has left the group"):
        result_of(asked)
    assert rig.group.status().waiting == 0


def test_closing_the_group_fails_requests_with_exclude() -> None:
    rig = Full()
    asked = [rig.ask(exclude=[rig.known["a"]]) for _ in range(2)]
    rig.group.close()
    for each in asked:
        with pytest.raises(Closed, match="'them'"):
            result_of(each)


def test_a_request_with_exclude_is_counted_among_those_who_wait() -> None:
    rig = Full()
    asked = [rig.ask(), rig.ask(exclude=[rig.known["a"]]), rig.ask(exclude=[rig.known["b"]])]
    assert rig.group.status().waiting == 3
    for each in asked:
        each.cancel()
        with pytest.raises(CancelledError):
            result_of(each)
    assert rig.group.status().waiting == 0


def test_a_request_with_exclude_may_be_served_by_an_ejected_backend_in_panic() -> None:
    rig = Sourced("abcd")
    for name in "bcd":
        rig.pool.eject(rig.known[name])
    for name in "bc":
        rig.fake(name).refuse(after=0.05, always=True)
    asked = rig.ask(exclude=[rig.known["a"]])
    rig.clock.pump([0.05] * 3)
    assert names([result_of(asked)]) == "d"


def test_a_request_is_served_in_a_panic_that_begins_with_what_it_excludes() -> None:
    rig = Sourced("abc")
    held = rig.at("b")
    rig.pool.eject(rig.known["c"])
    asked = rig.ask(exclude=[rig.known["a"]])
    rig.turn()
    assert not asked.called
    rig.pool.eject(rig.known["a"])
    rig.turn()
    assert names([result_of(asked)]) == "c"
    held.release()


def test_an_idle_one_that_is_ejected_serves_it_once_those_excluded_make_it_panic() -> None:
    rig = Sourced("abc")
    rig.at("c").release()
    rig.pool.eject(rig.known["c"])
    held = rig.at("b")
    asked = rig.ask(exclude=[rig.known["a"]])
    assert not asked.called
    rig.pool.eject(rig.known["a"])
    assert names([result_of(asked)]) == "c"
    held.release()


def test_where_all_are_excluded_the_error_says_so() -> None:
    rig = Sourced("ab")
    every = [rig.known["a"], rig.known["b"]]
    everything = "exclude names all backends of <Group 'them' of 2 backends>: a, b"
    with pytest.raises(NoBackend, match=everything):
        rig.lease(exclude=every)
    with pytest.raises(NoBackend, match="exclude"):
        rig.group.try_connect("us", exclude=every)


def test_those_who_exclude_the_same_wait_in_turn() -> None:
    rig = Full()
    asked = [rig.ask(exclude=[rig.known["a"]]) for _ in range(2)]
    rig.held[1].release()
    lease = result_of(asked[0])
    assert not asked[1].called
    lease.release()
    result_of(asked[1])


def test_a_queue_where_nobody_waits_is_not_kept() -> None:
    rig = Full()
    before = len(rig.pool._managers.records.group_queues)
    for name in "ab":
        asked = rig.ask(exclude=[rig.known[name]])
        asked.cancel()
        with pytest.raises(CancelledError):
            result_of(asked)
    assert len(rig.pool._managers.records.group_queues) == before


def test_what_is_tried_elsewhere_is_none_that_was_excluded() -> None:
    rig = Sourced("abc")
    rig.fake("b").refuse(after=0.1, always=True)
    rig.fake("c").refuse(after=0.1, always=True)
    asked = rig.ask(exclude=[rig.known["a"]])
    rig.clock.pump([0.1] * 3)
    with pytest.raises(ConnectFailed) as caught:
        result_of(asked)
    assert names(list(caught.value.tried)) == "bc"
    assert rig.fake("a").attempts == 0


def test_a_balancer_that_remembers_a_status_cannot_choose_what_is_excluded() -> None:
    rig = Sourced("abc", sticky())
    rig.lease().release()
    with pytest.raises(NoBackend, match="none of the 2 statuses"):
        rig.lease(exclude=[rig.known["a"]])
    assert names([rig.lease(exclude=[rig.known["c"]])]) == "a"


def test_a_retry_is_not_where_it_failed_though_a_balancer_insists() -> None:
    rig = Sourced("ab", sticky())
    rig.fake("a").refuse(after=0.1, always=True)
    asked = rig.ask()
    rig.clock.pump([0.1, 0])
    assert names([result_of(asked)]) == "b"


def test_a_queue_that_empties_while_the_list_changes_is_not_kept() -> None:
    rig = Full()
    before = len(rig.pool._managers.records.group_queues)
    first = rig.ask(exclude=[rig.known["a"]])
    second = rig.ask(exclude=[rig.known["b"]])
    second.addErrback(lambda failure: failure.trap(CancelledError))
    first.addCallback(lambda lease: [second.cancel(), lease][1])
    rig.tell("abc")
    assert names([result_of(first)]) == "c"
    assert len(rig.pool._managers.records.group_queues) == before
