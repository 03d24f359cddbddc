"""C{Policy(keepalive=...)}: an idle connection is checked while nobody asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Ejection, Policy, Pool
from kolus.backoff import Backoff
from kolus.events import Retired, Why
from kolus.manager.connections.keepalive import MOST_AT_A_TIME
from kolus.testing import NotFired, result_of
from tests.rigs.pools import Managed, Pooled
from tests.rigs.sharing import Hears, Sharing


class Checks:
    """A check that answers when the test says so.

    @ivar asked: the protocols, and the Deferreds that the check gave for them.
    @ivar answers: whether it answers at once, and what.
    """

    def __init__(self, answers: bool | None = None) -> None:
        self.asked: list[tuple[Any, Deferred[bool]]] = []
        self.answers = answers

    def __call__(self, protocol: Any) -> Deferred[bool]:
        answer: Deferred[bool] = Deferred()
        self.asked.append((protocol, answer))
        if self.answers is not None:
            answer.callback(self.answers)
        return answer

    @property
    def open(self) -> list[Deferred[bool]]:
        return [answer for _, answer in self.asked if not answer.called]

    def answer(self, result: bool = True) -> None:
        for each in self.open:
            each.callback(result)


def idle(rig: Any, count: int = 1) -> list[Any]:
    """Have so many idle connections, and return their protocols."""
    leases = [rig.lease() for _ in range(count)]
    protocols = [each.protocol for each in leases]
    for each in leases:
        each.release()
    return protocols


def test_an_idle_connection_is_checked_again_and_again() -> None:
    checks = Checks(True)
    rig = Managed(check=checks, keepalive=10, idle_timeout=None)
    idle(rig)
    for expected in (0, 1, 1, 2, 2, 3):
        assert len(checks.asked) == expected
        rig.clock.advance(5 if expected else 10)
    assert rig.numbers()[0] == 1


@pytest.mark.parametrize("reuse", ["lifo", "fifo"])
def test_a_connection_that_died_in_silence_is_closed_before_a_request_gets_it(reuse: str) -> None:
    checks = Checks(True)
    rig = Managed(check=checks, keepalive=10, check_after=30, observed=True, reuse=reuse)
    idle(rig)
    rig.clock.advance(10)
    checks.answers = False
    rig.clock.advance(10)
    rig.turn()
    assert not rig.fake.connections
    retired = [each for each in rig.events if isinstance(each, Retired)]
    assert retired == [Retired(rig.manager.backend, "us", Why.UNFIT)]
    assert not rig.lease().reused


def test_a_check_that_never_answers_closes_the_connection_in_time() -> None:
    rig = Managed(check=Checks(), keepalive=10, check_timeout=1)
    idle(rig)
    rig.clock.advance(10)
    rig.clock.advance(1)
    rig.turn()
    assert not rig.fake.connections


def test_a_keep_alive_does_not_count_as_use_for_the_idle_timeout() -> None:
    checks = Checks(True)
    rig = Managed(check=checks, keepalive=10, idle_timeout=35, idle_jitter=0)
    idle(rig, 2)
    rig.clock.pump([5] * 6)
    assert len(checks.asked) == 6
    rig.clock.advance(4.9)
    assert rig.numbers()[0] == 2
    rig.clock.advance(0.1)
    assert rig.numbers()[0] == 0


def test_the_idle_timeout_comes_at_its_time_after_each_number_of_keep_alives() -> None:
    for period in range(1, 30):
        rig = Managed(check=Checks(True), keepalive=period, idle_timeout=30, idle_jitter=0.2)
        idle(rig)
        rig.clock.pump([0.5] * 53)  # half of the jitter: 27 s
        assert rig.numbers()[0] == 1
        rig.clock.advance(0.5)
        assert rig.numbers()[0] == 0, period


def test_a_connection_of_the_head_room_is_kept_alive_for_ever() -> None:
    checks = Checks(True)
    rig = Managed(check=checks, keepalive=10, idle_timeout=5, min_idle=1)
    idle(rig)
    rig.clock.pump([5] * 21)
    assert rig.numbers()[0] == 1
    assert len(checks.asked) == 10
    assert rig.fake.attempts == 2, "the second was made for the head-room, and closed"


def test_a_lease_and_a_release_put_the_keep_alive_off() -> None:
    checks = Checks(True)
    rig = Managed(check=checks, keepalive=10, check_after=20)
    for _ in range(10):
        idle(rig)
        rig.clock.advance(6)
    assert not checks.asked
    rig.clock.advance(4)
    assert len(checks.asked) == 1


def test_a_leased_connection_is_not_checked() -> None:
    checks = Checks(True)
    rig = Managed(check=checks, keepalive=10)
    lease = rig.lease()
    rig.clock.pump([5] * 9)
    assert not checks.asked
    lease.release()
    rig.clock.advance(9.9)
    assert not checks.asked
    rig.clock.advance(0.1)
    assert len(checks.asked) == 1


def test_what_was_just_kept_alive_needs_no_check_before_a_lease() -> None:
    checks = Checks(True)
    rig = Managed(check=checks, keepalive=10, check_after=5)
    idle(rig)
    rig.clock.advance(12)
    assert len(checks.asked) == 1
    assert rig.lease().reused
    assert len(checks.asked) == 1


def test_few_connections_are_checked_at_a_time() -> None:
    checks = Checks()
    rig = Managed(check=checks, keepalive=10, limit=20, check_timeout=None, idle_timeout=None)
    idle(rig, 20)
    rig.clock.advance(10)
    done = 0
    while done < 20:
        assert len(checks.open) == min(MOST_AT_A_TIME, 20 - done)
        assert rig.numbers()[:2] == (20 - len(checks.open), len(checks.open))
        checks.open[0].callback(True)
        done += 1
        rig.turn()
    assert rig.numbers()[0] == 20
    assert len({id(protocol) for protocol, _ in checks.asked}) == 20


@pytest.mark.parametrize("reuse", ["lifo", "fifo"])
def test_a_keep_alive_does_not_change_which_connection_is_next(reuse: str) -> None:
    checks = Checks(True)
    rig = Managed(check=checks, keepalive=10, check_after=40, limit=3, reuse=reuse)
    old, _, young = idle(rig, 3)
    rig.clock.advance(4)
    lease = rig.lease()
    used = lease.protocol
    lease.release()
    assert used is (young if reuse == "lifo" else old)
    rig.clock.advance(6)
    assert len(checks.asked) == 2
    assert used not in [protocol for protocol, _ in checks.asked]
    following = rig.lease().protocol
    assert (following is used) is (reuse == "lifo")


def test_surplus_connections_become_too_old_although_they_are_kept_alive() -> None:
    rig = Managed(
        check=Checks(True), keepalive=4, idle_timeout=30, idle_jitter=0, limit=5, check_after=20
    )
    idle(rig, 5)
    for _ in range(31):
        idle(rig)
        rig.clock.advance(1)
    assert rig.numbers()[0] == 1


@pytest.mark.parametrize("idle_timeout", [None, 1000.0])
def test_many_keep_alives_leave_nothing_behind(idle_timeout: float | None) -> None:
    rig = Managed(check=Checks(True), keepalive=1, idle_timeout=idle_timeout, limit=3)
    idle(rig, 3)
    rig.clock.pump([1.0] * 300)
    connections = rig.manager.connections
    assert rig.manager.status().idle == 3
    for times in (connections._idle_times, connections._check_times):
        assert len(times._dues.ranks) <= 3
        assert len(times._dues._heap) <= 3


# Requests that come meanwhile


def test_a_request_takes_another_idle_connection_during_the_check() -> None:
    checks = Checks()
    rig = Managed(check=checks, keepalive=10, check_after=40)
    first, second = idle(rig, 2)
    rig.clock.advance(5)
    idle(rig)
    rig.clock.advance(5)
    assert [protocol for protocol, _ in checks.asked] == [first]
    assert rig.lease().protocol is second


def test_a_request_with_nothing_else_idle_is_served_when_the_check_passes() -> None:
    checks = Checks()
    rig = Managed(check=checks, keepalive=10, limit=1)
    (protocol,) = idle(rig)
    rig.clock.advance(10)
    asked = rig.ask()
    assert rig.manager.explain().why == "1 idle connection is being checked"
    (explained,) = rig.manager.explain().leases
    assert explained.doing == "in a keep-alive check"
    checks.answer()
    lease = result_of(asked)
    assert lease.protocol is protocol
    rig.clock.advance(3)
    lease.release()
    rig.clock.advance(9.9)
    assert not checks.open, "it was used meanwhile"
    rig.clock.advance(0.1)
    assert checks.open


def test_a_request_with_nothing_else_idle_is_served_by_another_when_the_check_fails() -> None:
    checks = Checks()
    rig = Managed(check=checks, keepalive=10, limit=1)
    idle(rig)
    rig.clock.advance(10)
    asked = rig.ask()
    checks.answer(False)
    rig.turn()
    assert not result_of(asked).reused


@pytest.mark.parametrize("shared", [False, True])
def test_a_request_does_not_wait_for_a_slow_keep_alive(shared: bool) -> None:
    checks = Checks()
    kind: Any = Sharing if shared else Managed
    rig = kind(check=checks, keepalive=10, limit=2, check_timeout=None)
    (protocol,) = idle(rig)
    rig.clock.advance(10)
    asked = rig.ask()
    rig.clock.pump([0.1, 0.1, 0.1])
    lease = result_of(asked)
    assert lease.protocol is not protocol
    checks.answer()
    assert rig.lease().protocol in (protocol, lease.protocol)
    lease.release()


def test_a_request_that_leaves_during_the_check_loses_nothing() -> None:
    checks = Checks()
    rig = Managed(check=checks, keepalive=10, limit=1, idle_timeout=30, idle_jitter=0)
    idle(rig)
    rig.clock.advance(10)
    asked = rig.ask()
    asked.addErrback(lambda _: None)
    asked.cancel()
    checks.answer()
    checks.answers = True
    assert rig.numbers()[:2] == (1, 0)
    rig.clock.pump([10, 9.9])
    assert rig.numbers()[:2] == (1, 0)
    rig.clock.advance(0.2)
    assert rig.numbers()[:2] == (0, 0), "idle since it was"


def test_groups_and_select_get_what_passes_its_keep_alive() -> None:
    for ask in ("group", "select"):
        checks = Checks()
        rig = Pooled(check=checks, keepalive=10, limit=1)
        group = rig.pool.group(rig.backends[:1])
        result_of(rig.pool.connect("us", rig.backends[0])).release()
        rig.clock.advance(10)
        select = rig.pool.select
        asked = group.connect("us") if ask == "group" else select("us", rig.backends[:1])
        with pytest.raises(NotFired):
            result_of(asked)
        checks.answer()
        result_of(asked).release()


# Operations meanwhile

OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "invalidate": lambda rig: rig.manager.invalidate(),
    "drain": lambda rig: rig.manager.drain(),
    "close": lambda rig: rig.manager.close(0),
    "the peer closes": lambda rig: rig.fake.connections[0].close(),
    "the peer resets": lambda rig: rig.fake.connections[0].reset(),
}


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_connection_that_must_go_does_so_although_it_is_checked(
    operation: str, late: bool
) -> None:
    checks = Checks()
    rig = Managed(check=checks, keepalive=10, check_timeout=3)
    idle(rig)
    rig.clock.advance(10)
    OPERATIONS[operation](rig)
    if late:
        rig.clock.advance(3)
    else:
        checks.answer()
    rig.turn()
    assert not rig.fake.connections
    result_of(rig.manager.close(0))
    assert not rig.clock.getDelayedCalls()


def test_a_paused_manager_keeps_its_connections_alive() -> None:
    checks = Checks(True)
    rig = Managed(check=checks, keepalive=10)
    idle(rig)
    rig.manager.pause()
    rig.clock.advance(10)
    assert len(checks.asked) == 1
    rig.manager.resume()
    assert rig.lease().reused


def test_a_lowered_limit_closes_what_comes_from_its_keep_alive() -> None:
    checks = Checks()
    rig = Managed(check=checks, keepalive=10, limit=2)
    idle(rig, 2)
    rig.clock.advance(10)
    rig.manager.resize(1)
    checks.answer()
    rig.turn()
    assert len(rig.fake.connections) == 1


def test_failed_keep_alives_are_not_held_against_the_backend() -> None:
    checks = Checks(False)
    rig = Managed(check=checks, keepalive=10, limit=10)
    idle(rig, 10)
    rig.clock.pump([10, 0, 0, 0, 0])
    assert len(checks.asked) == 10
    assert rig.manager.status().state.value == "open"
    assert rig.manager.record.health.failures == 0


def test_a_failed_keep_alive_does_not_hide_that_the_check_for_a_request_fails() -> None:
    checks = Checks()
    rig = Managed(check=checks, keepalive=10, check_after=1, ejection=Ejection(failures=9))
    first = idle(rig, 2)[0]
    rig.clock.advance(0.5)
    idle(rig)
    rig.clock.advance(9.5)
    assert [protocol for protocol, _ in checks.asked] == [first]
    waiting = [rig.ask(), rig.ask()]
    assert len(checks.open) == 2
    checks.open[0].callback(False)
    assert rig.manager.record.health.failures == 0
    checks.open[0].callback(False)
    assert rig.manager.record.health.failures == 1
    rig.turn()
    for each in waiting:
        result_of(each).release()


def test_a_check_that_closes_the_manager_is_harmless() -> None:
    def check(protocol: Any) -> bool:
        rig.manager.close(0)
        return True

    rig = Managed(check=check, keepalive=10, limit=10)
    idle(rig, 10)
    rig.clock.pump([10, 0, 0])
    result_of(rig.manager.when_closed())
    assert not rig.clock.getDelayedCalls()


# Shared connections


def test_an_idle_shared_connection_is_kept_alive() -> None:
    checks = Checks()
    rig = Sharing(Hears, check=checks, keepalive=10, idle_timeout=35, idle_jitter=0)
    rig.lease().release()
    rig.clock.advance(10)
    assert len(checks.open) == 1
    assert rig.manager.status().idle == 0
    checks.answer()
    assert rig.manager.status().idle == 3
    rig.clock.advance(10)
    asked = rig.ask()
    checks.answer()
    lease = result_of(asked)
    rig.clock.pump([10] * 5)
    assert not checks.open, "it is leased"
    lease.release()
    rig.end()


def test_a_shared_connection_that_died_in_silence_is_closed() -> None:
    rig = Sharing(Hears, check=Checks(False), keepalive=10)
    rig.lease().release()
    rig.clock.pump([10, 0, 0])
    assert rig.numbers() == (0, 0, 0, 6, 0)
    rig.end()


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keepalive": 0, "check": bool}, "keepalive must be more than 0"),
        ({"keepalive": -1, "check": bool}, "keepalive"),
        ({"keepalive": 70, "check": bool}, "keepalive=70 is more than idle_timeout=60"),
    ],
)
def test_settings_of_the_keep_alive_that_make_no_sense_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Policy(**settings)


def test_a_pool_refuses_a_keep_alive_without_a_check() -> None:
    with pytest.raises(ValueError, match="keepalive=5 needs a check: that is what it runs"):
        Pool(Clock(), Protocol, policy=Policy(keepalive=5))


def test_a_keep_alive_is_of_use_with_any_check_after() -> None:
    Policy(check=bool, check_after=100, keepalive=10)


@pytest.mark.parametrize("rig_of", [Managed, Sharing])
def test_what_is_checked_still_counts_as_kept_ready(rig_of: Callable[..., Any]) -> None:
    checks = Checks()
    rig = rig_of(check=checks, keepalive=10, check_timeout=None, limit=5, min_idle=2)
    idle(rig)
    rig.turn()
    assert rig.fake.attempts == 3
    rig.clock.advance(10)
    assert len(checks.open) == 3
    rig.clock.advance(0.2)
    assert rig.fake.attempts == 3
    checks.answer()
    assert rig.manager.status().idle == (3 if rig_of is Managed else 9)


@pytest.mark.parametrize("kind", [Managed, Sharing])
def test_what_is_kept_ready_is_made_after_the_pause_though_who_counted_on_a_check_has_left(
    kind: Any,
) -> None:
    checks = Checks(True)
    more = {"slots": 1} if kind is Sharing else {}
    rig = kind(min_idle=2, check=checks, check_after=0, backoff=Backoff(2.0), **more)
    rig.fake.accept().refuse(always=True)
    rig.lease().release()
    checks.answers = None
    rig.clock.advance(0.9)
    attempts = rig.fake.attempts
    asked = rig.manager.connect("us")  # a check is under way for it: no more is needed
    assert len(checks.open) == 1
    asked.addErrback(lambda _: None).cancel()
    rig.clock.advance(0.11)
    assert rig.fake.attempts == attempts + 1
    closed = rig.manager.close(0)
    rig.clock.advance(60)
    result_of(closed)
