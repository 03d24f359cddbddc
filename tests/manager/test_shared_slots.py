"""C{ISlots}, on a clock: protocols that report how many leases they can carry."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from kolus import Backend, ConnectFailed, ISlots, Policy, Pool
from kolus.balance import fill_first
from kolus.testing import FakeBackend, NotFired, result_of
from tests.rigs.sharing import Multiplexed, Sharing


def multiplexed(first: Any) -> type[Multiplexed]:
    """Protocols that begin with so many slots."""
    return type("Multiplexed", (Multiplexed,), {"first": first})


def hook_failures(log_events: list[Any]) -> list[str]:
    return [each["error"] for each in log_events if each.get("hook") == "slots"]


def test_a_protocol_that_knows_its_slots_is_asked_and_not_the_policy() -> None:
    rig = Sharing(Multiplexed, limit=1)
    verifyObject(ISlots, Multiplexed())
    leases = rig.take(2)
    waiting = rig.ask()
    with pytest.raises(NotFired):
        result_of(waiting)
    assert rig.numbers() == (0, 2, 0, 0, 1)
    leases.pop().release()
    result_of(waiting).release()
    leases.pop().release()
    rig.end()


def test_more_slots_serve_those_who_wait_at_once() -> None:
    rig = Sharing(Multiplexed, limit=1)
    leases = rig.take(2)
    waiting = [rig.ask() for _ in range(3)]
    rig.protocols[0].change(4)
    leases += [result_of(each) for each in waiting[:2]]
    with pytest.raises(NotFired):
        result_of(waiting[2])
    assert rig.numbers() == (0, 4, 0, 0, 1)
    waiting[2].cancel()
    waiting[2].addErrback(lambda _: None)
    for lease in leases:
        lease.release()
    rig.end()


def test_with_fewer_slots_nobody_new_comes_until_enough_are_settled() -> None:
    rig = Sharing(multiplexed(3), limit=1)
    leases = rig.take(3)
    rig.protocols[0].change(1)
    waiting = rig.ask()
    for _ in range(2):
        leases.pop().release()
        with pytest.raises(NotFired):
            result_of(waiting)
    leases.pop().release()
    result_of(waiting).release()
    assert rig.numbers() == (1, 0, 0, 0, 0)
    assert rig.fake.attempts == 1
    rig.end()


def test_leases_beyond_a_smaller_number_of_slots_go_on() -> None:
    rig = Sharing(multiplexed(3))
    leases = rig.take(3)
    rig.protocols[0].change(0)
    assert rig.numbers() == (0, 3, 0, 3, 0)
    leases[0].protocol.transport.write(b"still")
    assert rig.fake.accepted[0].received == b"still"
    for lease in leases:
        lease.release()
    rig.end()


def test_a_connection_without_slots_at_first_serves_when_it_has_some() -> None:
    rig = Sharing(multiplexed(0), limit=1)
    waiting = rig.ask()
    assert rig.numbers() == (0, 0, 0, 0, 1)
    rig.clock.advance(1)
    rig.protocols[0].change(2)
    result_of(waiting).release()
    assert rig.numbers() == (2, 0, 0, 0, 0)
    rig.end()


def test_why_a_request_waits_is_explained_when_no_connection_has_slots() -> None:
    rig = Sharing(multiplexed(0), limit=1)
    waiting = rig.ask()
    assert rig.manager.explain().why == "no connection has slots now: its protocol reports none"
    waiting.cancel()
    waiting.addErrback(lambda _: None)


def test_slots_that_are_gone_when_the_check_is_over_are_not_leased() -> None:
    asked: list[Deferred[bool]] = []

    def check(protocol: Any) -> Deferred[bool]:
        asked.append(Deferred())
        return asked[-1]

    rig = Sharing(Multiplexed, limit=1, check=check, check_timeout=None)
    rig.lease().release()
    rig.clock.advance(5)
    waiting = rig.ask(timeout=60)
    rig.protocols[0].change(0)
    asked[0].callback(True)
    with pytest.raises(NotFired):
        result_of(waiting)
    rig.protocols[0].change(1)
    result_of(waiting).release()
    rig.end()


@pytest.mark.parametrize("nonsense", [-1, "many", None, 1.5, True])
def test_nonsense_instead_of_a_number_of_slots_costs_the_connection_and_is_reported(
    nonsense: Any, log_events: list[Any]
) -> None:
    rig = Sharing(Multiplexed)
    lease = rig.lease()
    lost = lease.when_lost()
    rig.protocols[0].change(nonsense)
    other = rig.lease()
    assert other.protocol is rig.protocols[1]
    rig.turn()
    result_of(lost)
    assert not rig.fake.accepted[0].open
    assert len(hook_failures(log_events)) == 1
    assert repr(nonsense) in hook_failures(log_events)[0]
    lease.release()
    other.release()
    rig.end()


def test_an_idle_connection_that_comes_to_nonsense_is_closed(log_events: list[Any]) -> None:
    rig = Sharing(Multiplexed, limit=1)
    rig.lease().release()
    rig.protocols[0].change(-1)
    assert rig.manager.try_connect("us") is None
    rig.turn()
    assert not rig.fake.accepted[0].open
    assert len(hook_failures(log_events)) == 1
    assert rig.numbers() == (0, 0, 0, 2 + 1, 0)
    rig.end()


def test_slots_that_raise_cost_the_connection_and_stop_nobody_else(log_events: list[Any]) -> None:
    class Raises(Multiplexed):
        @property
        def slots(self) -> int:  # type: ignore[override]
            if self._broken:
                raise ZeroDivisionError("mine")
            return 2

        @slots.setter
        def slots(self, slots: Any) -> None:
            self._broken = slots == "broken"

    rig = Sharing(Raises)
    lease = rig.lease()
    rig.protocols[0].change("broken")
    other = rig.lease()
    assert other.protocol is rig.protocols[1]
    assert rig.manager.status().leased
    rig.turn()
    assert not rig.fake.accepted[0].open
    assert "mine" in hook_failures(log_events)[0]
    lease.release()
    other.release()
    rig.end()


def test_a_protocol_that_says_so_too_early_or_too_late_does_no_harm() -> None:
    class Hasty(Multiplexed):
        def watch_slots(self, changed: Any) -> None:
            changed()
            super().watch_slots(changed)

        def connectionLost(self, reason: Any) -> None:
            self.change(5)

    rig = Sharing(Hasty, limit=1)
    lease = rig.lease()
    rig.fake.accepted[0].reset()
    rig.protocols[0].change(9)
    lease.release()
    assert rig.numbers() == (0, 0, 0, 3, 0)
    rig.end()
    rig.protocols[0].change(3)


def test_a_protocol_whose_watching_fails_is_why_the_connect_failed(logged_failures: Any) -> None:
    class Broken(Multiplexed):
        def watch_slots(self, changed: Any) -> None:
            raise ZeroDivisionError("mine")

    rig = Sharing(Broken)
    with pytest.raises(ConnectFailed, match="mine"):
        result_of(rig.ask())
    assert rig.numbers() == (0, 0, 0, 6, 0)


def test_a_watching_that_nobody_waits_for_is_why_the_connect_failed() -> None:
    class Later(Multiplexed):
        async def watch_slots(self, changed: Any) -> None:  # type: ignore[override]
            raise AssertionError("nobody waits for it")

    with pytest.raises(ConnectFailed, match="watch_slots returned an object of type coroutine"):
        result_of(Sharing(Later).ask())


def test_one_waiter_for_a_connection_without_slots_as_yet_makes_no_others() -> None:
    rig = Sharing(multiplexed(0), limit=10)
    waiting = rig.ask()
    rig.turn()
    assert rig.fake.attempts == 1
    rig.protocols[0].change(100)
    result_of(waiting).release()
    rig.end()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_connection_that_does_not_tell_its_slots_in_a_second_and_a_half_gets_company(
    fresh: bool,
) -> None:
    kinds = iter([multiplexed(0), multiplexed(3)])
    rig = Sharing(lambda: next(kinds)(), limit=2)
    waiting = rig.manager.connect("us", fresh=fresh)
    rig.clock.advance(1.4)
    assert rig.fake.attempts == 1
    rig.clock.advance(0.1)
    rig.turn()
    assert rig.fake.attempts == 2
    assert result_of(waiting).protocol is rig.protocols[1]
    rig.end()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_connection_that_never_tells_its_slots_does_not_keep_a_request_from_another_backend(
    fresh: bool,
) -> None:
    clock = Clock()
    backends = [Backend(FakeBackend(clock), name=name) for name in "ab"]
    kinds = iter([multiplexed(0), multiplexed(3)])
    pool: Pool[Any] = Pool(clock, lambda: next(kinds)(), policy=Policy(limit=1, slots=3))
    asked = pool.group(backends, fill_first).connect("us", fresh=fresh)
    clock.advance(0.2)
    assert not asked.called
    clock.pump([0.05, 0, 0])
    assert result_of(asked).backend == backends[1]


def test_a_connection_without_slots_as_yet_counts_for_a_while_as_one_that_is_being_made() -> None:
    rig = Sharing(multiplexed(0), limit=1, slots=3, max_waiters=0)
    rig.fake.accept(after=0.1)
    asked = [rig.ask()]
    assert rig.manager.placements.surplus() == 2
    rig.clock.advance(0.1)
    assert rig.manager.placements.surplus() == 2, "no other backend has to serve it"
    rig.clock.advance(0.25)
    assert rig.manager.placements.surplus() == -1
    rig.protocols[0].change(3)
    asked += [rig.ask() for _ in range(2)]
    for each in asked:
        result_of(each).release()
    rig.end()


def test_a_new_connection_that_cannot_carry_anything_any_more_is_not_waited_for() -> None:
    rig = Sharing(limit=1)
    result_of(rig.manager.admission.warm("us", 1, None))
    rig.protocols[0].transport.loseWriteConnection()
    asked = rig.ask()
    rig.turn()
    lease = result_of(asked)
    assert lease.protocol is rig.protocols[1]
    lease.release()
    rig.end()


def test_slots_may_change_while_the_waiters_they_serve_settle() -> None:
    rig = Sharing(multiplexed(1), limit=1)
    held = rig.lease()
    waiting = [rig.ask() for _ in range(50)]
    served: list[int] = []

    def serve(lease: Any, number: int) -> None:
        served.append(number)
        lease.protocol.change(1 + number % 3)
        lease.release()

    for number, each in enumerate(waiting):
        each.addCallback(serve, number)
    held.release()
    assert served == list(range(50))
    rig.end()


def test_an_idle_connection_that_comes_to_nonsense_may_lead_to_the_end_of_others() -> None:
    rig = Sharing(Multiplexed, limit=4, observed=True)
    for _ in range(3):
        rig.fake.never_answer()
    rig.fake.accept(after=0.1)
    asked = [rig.ask() for _ in range(12)]
    for each in asked:
        each.addErrback(lambda _: None)
        each.cancel()
    rig.clock.advance(0.1)
    assert rig.numbers() == (2, 0, 9, 0, 0)
    rig.manager.observers.append(lambda event: rig.manager.drain())
    rig.protocols[0].slots = "many"
    assert rig.numbers() == (0, 0, 0, 9, 0)


def noted(asked: list[Multiplexed]) -> type[Multiplexed]:
    """Protocols that note each look at their slots."""

    class Asked(Multiplexed):
        @property
        def slots(self) -> int:  # type: ignore[override]
            asked.append(self)
            return self._slots

        @slots.setter
        def slots(self, slots: int) -> None:
            self._slots = slots

    return Asked


def test_to_count_leases_asks_no_protocol_which_could_change_the_backends_health() -> None:
    asked: list[Multiplexed] = []
    rig = Sharing(noted(asked))
    result_of(rig.manager.admission.warm("us", 1, None))
    assert rig.manager.load() == 0
    assert rig.manager.record.load.now() == 1
    assert asked == []
    rig.lease().release()
    rig.end()


def test_a_request_asks_no_protocol_of_the_connections_that_it_does_not_get() -> None:
    asked: list[Multiplexed] = []
    rig = Sharing(noted(asked), limit=51, max_connecting=51)
    leases = rig.take(100)
    rig.fake.never_answer()
    asked.clear()
    waiting = [rig.ask(), rig.ask()]
    waiting[1].cancel()
    waiting[1].addErrback(lambda _: None)
    leases.pop().release()
    leases.append(result_of(waiting[0]))
    assert asked == []
    rig.protocols[7].change(3)
    leases.append(rig.lease())
    assert asked == [rig.protocols[7]]
    for lease in leases:
        lease.release()
    rig.end()
