"""The policy's C{probe} admits an ejected backend, so no request has to be the probe."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from kolus import Ejection
from kolus.balance import fill_first
from kolus.events import Admitted, Ejected, Event, ProbeDue
from kolus.health.health import BY_HAND
from kolus.status import State
from kolus.testing import result_of
from tests.rigs.groups import Sourced, names
from tests.rigs.health_rigs import FIRST, Hook, Nursed


@pytest.mark.parametrize("how", ["fail", "refuse"])
def test_the_pool_probes_by_itself_with_the_hook(how: str) -> None:
    hook = Hook()
    rig = Nursed(probe=hook)
    getattr(rig, how)()
    rig.clock.advance(FIRST)
    assert len(hook.asked) == 1
    assert rig.state() is State.EJECTED
    hook.asked[0].callback(None)
    assert rig.state() is State.OPEN
    assert [each.reason for each in rig.told(Admitted)] == ["a probe went well"]
    assert rig.pool.status(rig.backends)[0].idle == 1


def test_no_request_is_the_probe_where_there_is_a_hook() -> None:
    rig = Nursed(probe=Hook())
    rig.fail()
    rig.clock.advance(FIRST)
    held = [rig.lease() for _ in range(5)]
    assert {str(each.backend) for each in held} == {"b"}


def raises(protocol: Any) -> None:
    raise ValueError("not well")


async def raises_later(protocol: Any) -> None:
    raise ValueError("not well")


async def returns_false_later(protocol: Any) -> bool:
    return False


@pytest.mark.parametrize("how", ["fail", "refuse"])
@pytest.mark.parametrize(
    "hook", [raises, lambda protocol: False, raises_later, returns_false_later]
)
def test_a_hook_that_raises_or_returns_false_keeps_it_ejected_for_twice_as_long(
    hook: Any, how: str
) -> None:
    rig = Nursed(probe=hook)
    getattr(rig, how)()
    rig.clock.advance(FIRST)
    assert rig.state() is State.EJECTED
    assert rig.told(Admitted) == []
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, 2 * FIRST]


@pytest.mark.parametrize("how", ["fail", "refuse"])
def test_a_hook_that_never_answers_keeps_it_ejected_and_is_given_up(how: str) -> None:
    hook = Hook()
    rig = Nursed(probe=hook, probe_timeout=5.0)
    getattr(rig, how)()
    rig.clock.advance(FIRST)
    for _ in range(49):
        rig.clock.advance(0.1)
        assert rig.state() is State.EJECTED
    assert len(hook.asked) == 1
    rig.clock.advance(0.2)
    rig.turn()
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, 2 * FIRST]
    assert rig.pool.status(rig.backends)[0].leased == 0


def test_the_time_of_a_hook_begins_when_its_connection_is_asked_for() -> None:
    hook = Hook()
    rig = Nursed(probe=hook, probe_timeout=5.0)
    rig.fail()
    rig.fakes[0].accept(after=3.0)
    rig.clock.advance(FIRST)
    rig.clock.advance(3.0)
    assert len(hook.asked) == 1
    rig.clock.advance(1.9)
    assert len(rig.told(Ejected)) == 1
    rig.clock.advance(0.2)
    assert len(rig.told(Ejected)) == 2


def test_a_hook_is_given_up_when_its_connection_is_lost() -> None:
    hook = Hook()
    rig = Nursed(probe=hook)
    rig.fail()
    rig.clock.advance(FIRST)
    rig.fakes[0].connections[-1].reset()
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, 2 * FIRST]


def test_a_probe_that_cannot_connect_keeps_it_ejected_for_twice_as_long() -> None:
    rig = Nursed(probe=Hook())
    rig.fail()
    rig.fakes[0].refuse()
    rig.clock.advance(FIRST)
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, 2 * FIRST]


def test_a_probe_of_a_full_backend_is_made_again_later() -> None:
    hook = Hook()
    rig = Nursed(probe=hook, probe_timeout=1.0, limit=6)
    held = rig.fill_at(0)
    for _ in range(5):
        held.pop().finished(failed=True)
    rig.turn()
    held += [rig.at() for _ in range(5)]
    rig.clock.pump([FIRST, 1.0])
    assert hook.asked == []
    for each in held:
        each.release()
    rig.clock.advance(FIRST)
    assert len(hook.asked) == 1
    hook.asked[0].callback(None)
    assert rig.state() is State.OPEN


def test_only_one_probe_is_under_way_however_short_the_ejections() -> None:
    hook = Hook()
    rig = Nursed(probe=hook, probe_timeout=5.0, ejection=Ejection(first=0.1))
    rig.fail()
    for _ in range(45):
        rig.clock.advance(0.1)
    assert len(hook.asked) == 1


def test_a_hook_probes_for_the_ident_that_used_the_backend_last() -> None:
    hook = Hook()
    rig = Nursed(probe=hook)
    rig.fail()
    rig.clock.advance(FIRST)
    assert len(hook.asked) == 1
    status = rig.pool.status(rig.backends)[0]
    assert (status.ident, status.leased) == ("us", 1)


async def persists(protocol: Any) -> None:
    while True:
        with suppress(Exception):
            await Deferred()


def test_a_hook_that_swallows_its_cancellation_is_given_up_all_the_same() -> None:
    rig = Nursed(probe=persists, probe_timeout=5.0)
    rig.fail()
    rig.clock.advance(FIRST)
    rig.clock.advance(5.0)
    rig.turn()
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, 2 * FIRST]
    assert rig.pool.status(rig.backends)[0].leased == 0
    rig.clock.advance(2 * FIRST)
    assert len(rig.told(ProbeDue)) == 2


def test_a_hook_that_swallows_its_cancellation_is_given_up_when_its_connection_is_lost() -> None:
    rig = Nursed(probe=persists, probe_timeout=None)
    rig.fail()
    rig.clock.advance(FIRST)
    rig.fakes[0].connections[-1].reset()
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, 2 * FIRST]


def test_a_hook_that_exits_is_a_failed_probe() -> None:
    def leaves(protocol: Any) -> None:
        raise SystemExit

    rig = Nursed(probe=leaves)
    rig.fail()
    rig.clock.advance(FIRST)
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, 2 * FIRST]


def test_a_probe_for_which_no_manager_can_be_made_is_a_failed_one() -> None:
    rig = Nursed(probe=Hook(), manager_idle_timeout=1.0)
    rig.fail()
    rig.clock.advance(1.0)
    assert rig.state() is State.EJECTED

    def breaks(backend: Any, ident: Any) -> Any:
        raise ArithmeticError

    rig.pool._managers._make = breaks
    rig.clock.advance(FIRST)
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, 2 * FIRST]
    rig.clock.advance(2 * FIRST)
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, 2 * FIRST, 4 * FIRST]


@pytest.mark.parametrize("hook", [None, Hook()])
def test_who_ejects_a_backend_by_hand_as_it_is_due_is_not_overruled_by_a_hook(hook: Any) -> None:
    rig = Nursed(probe=hook)

    def objects(event: Event) -> None:
        if isinstance(event, ProbeDue):
            rig.pool.eject(event.backend)

    rig.heard = objects
    rig.fail()
    for _ in range(100):
        rig.clock.advance(1.0)
    assert rig.state() is State.EJECTED
    assert [each.reason for each in rig.told(Ejected)][1:] == [BY_HAND]
    assert hook is None or hook.asked == []


# Whom nobody needs any more


def is_well(protocol: Any) -> None:
    pass


def attempts_in_an_hour(rig: Sourced, name: str = "a") -> int:
    before = rig.fake(name).attempts
    rig.clock.pump([1.0] * 3600)
    return rig.fake(name).attempts - before


def with_one_ejected(**policy: Any) -> Sourced:
    """A group whose first backend refuses all that connect."""
    rig = Sourced("ab", probe=is_well, ejection=Ejection(failures=1), **policy)
    rig.fake("a").refuse(always=True)
    rig.lease().release()
    assert rig.status("a").state is State.EJECTED
    return rig


def test_a_backend_that_has_left_its_groups_is_probed_no_more() -> None:
    rig = with_one_ejected()
    rig.tell("b")
    assert attempts_in_an_hour(rig) == 0


def test_a_backend_that_leaves_while_it_is_leased_is_probed_no_more() -> None:
    rig = with_one_ejected(limit=2)
    rig.fake("a").accept(always=True)
    rig.clock.advance(FIRST)
    held = rig.at("a")
    rig.at("a").finished(failed=True)
    assert rig.status("a").state is State.EJECTED
    rig.tell("b")
    assert attempts_in_an_hour(rig) == 0
    held.release()
    assert attempts_in_an_hour(rig) == 0


def test_a_backend_of_a_group_that_is_closed_is_given_up_after_a_while() -> None:
    rig = with_one_ejected()
    rig.group.close()
    assert attempts_in_an_hour(rig) < 9
    assert attempts_in_an_hour(rig) == 0


def test_a_backend_that_another_group_has_is_probed_though_it_has_left_one() -> None:
    rig = with_one_ejected(manager_idle_timeout=1.0)
    rig.pool.group([rig.known["a"]])
    rig.tell("b")
    assert attempts_in_an_hour(rig) > 10
    rig.fake("a").accept(always=True)
    rig.clock.advance(300.0)
    assert rig.status("a").state is not State.EJECTED


def test_a_backend_that_comes_back_is_probed_at_once_if_it_is_due() -> None:
    rig = with_one_ejected()
    rig.tell("b")
    attempts_in_an_hour(rig)
    assert rig.status("a").state is State.DUE
    rig.tell("ab")
    assert rig.status("a").state is State.EJECTED
    rig.fake("a").accept(always=True)
    rig.tell("b")
    attempts_in_an_hour(rig)
    rig.tell("ab")
    assert rig.status("a").state is State.OPEN


def test_a_backend_without_a_group_is_probed_while_it_has_a_manager() -> None:
    rig = Sourced("", probe=is_well, ejection=Ejection(failures=1))
    rig.fake("a").refuse()
    chosen = rig.pool.select("us", [rig.known["a"], rig.known["b"]], fill_first)
    assert names([result_of(chosen)]) == "b"
    rig.clock.advance(FIRST)
    assert rig.status("a").state is State.OPEN
