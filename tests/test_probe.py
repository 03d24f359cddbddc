"""One probe brings a backend back that was ejected: a request, or a hook."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from kolus import Ejection
from kolus.backend import State
from kolus.balance import Balancer, fill_first, least_leased, pick_two, round_robin
from kolus.events import Admitted, Ejected, Event, ProbeDue
from kolus.health import BY_HAND
from kolus.testing import result_of
from tests.health_rigs import FIRST, Hook, Nursed

# The probe


def test_one_request_is_the_probe_and_a_second_goes_elsewhere() -> None:
    rig = Nursed()
    rig.fail()
    rig.until_due()
    probe, other = rig.lease(), rig.lease()
    assert [str(each.backend) for each in (probe, other)] == ["a", "b"]
    assert rig.state() is State.EJECTED
    probe.release()
    other.release()


def test_one_request_is_the_probe_though_connections_are_idle_elsewhere() -> None:
    rig = Nursed()
    rig.fail()
    rig.use(1)
    rig.until_due()
    probe = rig.lease()
    assert str(probe.backend) == "a"
    probe.release()
    assert rig.state() is State.OPEN


@pytest.mark.parametrize("balancer", [fill_first, least_leased, round_robin(), pick_two()])
def test_a_backend_that_is_well_again_comes_back_whatever_the_others_have_idle(
    balancer: Balancer,
) -> None:
    rig = Nursed(2, balancer)
    rig.fail()
    for _ in range(100):
        rig.lease().release()
        rig.clock.advance(0.1)
    assert rig.state() is State.OPEN


def test_the_probe_is_connected_for_though_others_have_room() -> None:
    rig = Nursed()
    rig.refuse()
    rig.fakes[0].accept(after=0.1)
    rig.fakes[1].accept(after=5.0, always=True)
    rig.until_due()
    before = rig.fakes[0].attempts
    asked = rig.ask()
    assert rig.fakes[0].attempts == before + 1
    rig.clock.advance(0.1)
    assert str(result_of(asked).backend) == "a"
    assert rig.state() is State.OPEN


def test_a_request_whose_probe_fails_is_served_elsewhere() -> None:
    rig = Nursed()
    rig.refuse()
    rig.until_due()
    rig.fakes[0].refuse()
    assert str(rig.lease().backend) == "b"
    assert rig.told(Ejected)[-1].seconds == 2 * FIRST


def test_try_connect_that_gets_another_backends_lease_is_no_probe() -> None:
    rig = Nursed()
    rig.fail()
    rig.use(1)
    rig.until_due()
    lease = rig.group.try_connect("us")
    assert lease is not None
    assert str(lease.backend) == "b"
    assert rig.state() is State.DUE
    lease.release()


def test_a_probe_that_goes_well_admits_a_backend() -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    probe = rig.lease()
    assert rig.state() is State.EJECTED
    probe.release()
    assert rig.state() is State.OPEN
    assert rig.told(Admitted) == [Admitted(rig.backends[0], None, "a probe went well")]


def test_a_probe_that_can_connect_admits_a_backend_that_could_not_be_connected_to() -> None:
    rig = Nursed(1)
    rig.refuse()
    rig.until_due()
    probe = rig.lease()
    assert rig.state() is State.OPEN
    assert rig.told(Admitted) == [Admitted(rig.backends[0], None, "a probe could connect")]
    probe.release()


def test_a_probe_that_fails_ejects_a_backend_for_twice_as_long_and_tells_why() -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    rig.lease().finished(failed=True)
    assert rig.state() is State.EJECTED
    event = rig.told(Ejected)[-1]
    assert event.reason == "a probe failed: a lease was settled as failed"
    assert event.seconds == 2 * FIRST


def test_of_a_lease_from_before_the_probe_nothing_is_learnt() -> None:
    rig = Nursed(1)
    good, bad = rig.at(), rig.at()
    rig.fail()
    rig.until_due()
    rig.clock.advance(0.1)
    probe = rig.lease()
    good.release()
    bad.finished(failed=True)
    assert rig.state() is State.EJECTED
    assert len(rig.told(Ejected)) == 1
    probe.release()
    assert rig.state() is State.OPEN


@pytest.mark.parametrize("settle", [lambda lease: lease.finished(), lambda lease: None])
def test_a_probe_that_comes_to_nothing_is_made_again(settle: Callable[[Any], None]) -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    probe = rig.lease()
    settle(probe)
    rig.turn()
    rig.clock.advance(FIRST - 0.01)
    assert rig.state() is State.EJECTED
    rig.clock.advance(0.01)
    assert rig.state() is State.DUE
    assert len(rig.told(ProbeDue)) == 2
    rig.lease().release()
    assert rig.state() is State.OPEN
    if probe.held:
        probe.release()


def test_a_probe_that_is_cancelled_is_made_again() -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    rig.fakes[0].never_answer()
    asked = rig.ask()
    asked.addErrback(lambda failure: None)
    asked.cancel()
    rig.clock.advance(FIRST)
    assert rig.state() is State.DUE


# A hook that probes


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
    held = rig.fill(0)
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


def test_a_probe_for_which_no_manager_can_be_made_is_logged_and_made_again(
    logged_failures: Any,
) -> None:
    rig = Nursed(probe=Hook(), manager_idle_timeout=1.0)
    rig.fail()
    rig.clock.advance(1.0)
    assert rig.state() is State.EJECTED

    def breaks(backend: Any, ident: Any) -> Any:
        raise ArithmeticError

    rig.pool._managers._make = breaks
    rig.clock.advance(2 * FIRST)
    assert len(logged_failures.flush(ArithmeticError)) == 1
    rig.clock.advance(FIRST)
    assert len(logged_failures.flush(ArithmeticError)) == 1


@pytest.mark.parametrize("hook", [None, Hook()])
def test_who_ejects_a_backend_by_hand_as_it_is_due_is_not_overruled_by_a_hook(hook: Any) -> None:
    rig = Nursed(probe=hook)

    def objects(event: Event) -> None:
        if isinstance(event, ProbeDue):
            rig.pool.eject(event.backend)

    rig.pool._observers.append(objects)
    rig.fail()
    for _ in range(100):
        rig.clock.advance(1.0)
    assert rig.state() is State.EJECTED
    assert [each.reason for each in rig.told(Ejected)][1:] == [BY_HAND]
    assert hook is None or hook.asked == []
