"""Idle connections whose peers died without a word: a request does not wait for one check after the
other, and not for a backend that says nothing while another could serve it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Lease
from kolus.testing import NotFired, result_of
from tests.rigs.either import either, use
from tests.rigs.groups import Grouped

REUSE = pytest.mark.parametrize("reuse", ["lifo", "fifo"])


class Peers:
    """A check that is answered by those who live.

    @ivar checked: the protocols that were checked.
    @ivar answers: the Deferreds of the checks.
    """

    def __init__(self, answer: Any = None) -> None:
        self.dead: set[Protocol] = set()
        self.checked: list[Protocol] = []
        self.answers: list[Deferred[None]] = []
        self._answer = answer

    def check(self, protocol: Protocol) -> Any:
        if protocol not in self.dead:
            return None
        self.checked.append(protocol)
        if self._answer is not None:
            return self._answer()
        self.answers.append(Deferred())
        return self.answers[-1]

    def die(self, rig: Any, count: int) -> None:
        """Have so many idle connections, silent and stale."""
        use(rig, count)
        self.dead = {each.protocol for each in rig.manager.connections.all}
        rig.clock.advance(10.0)


def pass_time(clock: Clock, seconds: float) -> None:
    clock.pump([0.05] * round(seconds / 0.05))


def settings(peers: Peers, **more: Any) -> dict[str, Any]:
    checks = {"check": peers.check, "check_after": 5.0, "check_timeout": 1.0}
    return checks | {"idle_timeout": None} | more


@REUSE
@either
def test_a_slow_check_gets_a_connect_beside_it(rig_of: Any, reuse: Any) -> None:
    peers = Peers()
    rig = rig_of(limit=20, reuse=reuse, **settings(peers))
    peers.die(rig, 10)
    asked = rig.ask()
    pass_time(rig.clock, 0.2)
    with pytest.raises(NotFired):
        result_of(asked)
    assert len(peers.checked) == 1
    pass_time(rig.clock, 0.1)
    lease = result_of(asked)
    assert lease.protocol not in peers.dead
    pass_time(rig.clock, 2.0)
    assert len(rig.fake.connections) == 1


@either
def test_after_a_failed_check_all_that_are_stale_are_checked_at_once(rig_of: Any) -> None:
    peers = Peers()
    rig = rig_of(limit=20, **settings(peers))
    peers.die(rig, 10)
    rig.fake.never_answer(always=True)
    rig.ask().addErrback(lambda failure: None)
    assert len(peers.checked) == 1
    peers.answers[0].errback(ConnectionResetError())
    assert len(peers.checked) == 10
    assert rig.manager.status().connecting >= 1


@either
def test_checks_that_fail_at_once_serve_the_request_in_the_same_turn(rig_of: Any) -> None:
    peers = Peers(lambda: False)
    rig = rig_of(limit=2000, **settings(peers))
    peers.die(rig, 1000)
    assert result_of(rig.ask()).protocol not in peers.dead


@REUSE
@either
def test_a_full_backend_with_silent_peers_costs_about_one_check(rig_of: Any, reuse: Any) -> None:
    peers = Peers()
    rig = rig_of(limit=10, reuse=reuse, **settings(peers))
    peers.die(rig, 10)
    asked = rig.ask()
    pass_time(rig.clock, 1.1)
    assert result_of(asked).protocol not in peers.dead


@either
def test_many_requests_over_silent_peers_are_served_soon(rig_of: Any) -> None:
    peers = Peers()
    rig = rig_of(limit=20, **settings(peers))
    peers.die(rig, 20)
    asked = [rig.ask() for _ in range(20)]
    pass_time(rig.clock, 1.5)
    assert not [each for each in asked if result_of(each).protocol in peers.dead]


@either
def test_slow_checks_that_pass_lose_nothing(rig_of: Any) -> None:
    peers = Peers()
    rig = rig_of(limit=10, **settings(peers))
    peers.die(rig, 5)
    asked = rig.ask()
    pass_time(rig.clock, 0.5)
    result_of(asked).release()
    for each in peers.answers:
        each.callback(None)
    assert rig.numbers() == (6, 0, 0, 4, 0)
    peers.dead.clear()
    lease = rig.lease()
    assert lease.reused


@either
def test_silent_peers_are_one_failure_of_their_backend(rig_of: Any) -> None:
    peers = Peers()
    rig = rig_of(limit=20, **settings(peers))
    peers.die(rig, 10)
    rig.fake.never_answer(always=True)
    rig.ask().addErrback(lambda failure: None)
    pass_time(rig.clock, 2.0)
    assert not rig.fake.connections
    assert rig.manager.record.health.failures == 1


@either
def test_a_check_that_is_not_asked_for_any_more_checks_no_others(rig_of: Any) -> None:
    peers = Peers()
    rig = rig_of(limit=10, **settings(peers))
    peers.die(rig, 5)
    asked = rig.ask()
    asked.addErrback(lambda failure: None)
    asked.cancel()
    pass_time(rig.clock, 2.0)
    assert len(peers.checked) == 1


# A group

SLOTS = pytest.mark.parametrize("slots", [None, 2])
THROUGH = pytest.mark.parametrize("through", ["group", "select"])


def ask(rig: Grouped, through: str) -> Deferred[Lease[Any]]:
    return rig.ask() if through == "group" else rig.pool.select("us", rig.backends)


@SLOTS
@THROUGH
@pytest.mark.parametrize("limit", [3, 10])
def test_a_healthy_backend_does_not_wait_for_a_silent_one(
    slots: int | None, through: str, limit: int
) -> None:
    peers = Peers()
    rig = Grouped(2, slots=slots, **settings(peers, limit=limit))
    leases = [rig.lease() for _ in range(3 * (slots or 1))]
    assert {str(each.backend) for each in leases} == {"a"}
    for each in leases:
        peers.dead.add(each.protocol)
        each.release()
    rig.fakes[0].never_answer(always=True)
    rig.clock.advance(10.0)
    asked = ask(rig, through)
    pass_time(rig.clock, 0.7)
    assert str(result_of(asked).backend) == "b"


@SLOTS
def test_a_silent_backend_is_not_counted_on_when_a_check_failed(slots: int | None) -> None:
    peers = Peers()
    rig = Grouped(2, slots=slots, **settings(peers, limit=3))
    leases = [rig.lease() for _ in range(3 * (slots or 1))]
    for each in leases:
        peers.dead.add(each.protocol)
        each.release()
    rig.fakes[0].never_answer(always=True)
    rig.clock.advance(10.0)
    asked = rig.ask()
    peers.answers[0].errback(ConnectionResetError())
    pass_time(rig.clock, 0.4)
    assert str(result_of(asked).backend) == "b"


@REUSE
@either
@pytest.mark.parametrize("how", ["slow", "failed"])
def test_after_a_keep_alive_that_fails_or_is_slow_what_was_idle_as_long_is_not_trusted(
    rig_of: Any, how: str, reuse: str
) -> None:
    peers = Peers()
    rig = rig_of(**settings(peers, check_after=100.0, keepalive=7.0, limit=30, reuse=reuse))
    peers.die(rig, 10)  # the keep-alive checks begin after 7 s
    pass_time(rig.clock, 0.3 if how == "slow" else 1.1)
    asked = [rig.ask() for _ in range(3)]
    pass_time(rig.clock, 0.4)
    leases = [result_of(each) for each in asked]
    assert not peers.dead & {each.protocol for each in leases}
    for each in leases:
        each.release()


@either
def test_what_was_idle_for_less_than_that_one_is_leased_without_a_check(rig_of: Any) -> None:
    peers = Peers()
    rig = rig_of(**settings(peers, check_after=100.0, keepalive=10.0, limit=30))
    first, second = rig.lease(), rig.lease()
    peers.dead = {first.protocol}
    first.release()
    rig.clock.advance(2.0)
    young = second.protocol
    second.release()
    rig.clock.advance(8.0)
    pass_time(rig.clock, 0.3)
    lease = rig.lease()
    assert (lease.protocol, peers.checked) == (young, [*peers.dead])
    lease.release()
