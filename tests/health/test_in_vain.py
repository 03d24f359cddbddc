"""Rule 37: a connection that its peer ends while it is leased, and that has served nothing, counts
against the backend, whether or not the lessee says so."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Lease, Policy, Pool, balance
from kolus.testing import FakeBackend, FakeConnection, result_of
from tests.rigs.groups import Grouped

SLOTS = pytest.mark.parametrize("slots", [None, 3])
ENDS = pytest.mark.parametrize("end", [FakeConnection.reset, FakeConnection.close])


def released(lease: Lease[Any]) -> None:
    lease.release()


def finished(lease: Lease[Any]) -> None:
    lease.finished()


def failed(lease: Lease[Any]) -> None:
    lease.finished(failed=True)


def forgotten(lease: Lease[Any]) -> None:
    """Nothing: whoever has it lets it go."""


SETTLES = pytest.mark.parametrize("settle", [released, finished, failed, forgotten])


def failures(rig: Grouped) -> int:
    (status,) = rig.pool.status(rig.backends)
    return status.manager.record.health.failures  # type: ignore[union-attr]


def use(rig: Grouped, settle: Callable[[Lease[Any]], None], *happens: Any) -> None:
    """Lease a new connection, have something happen to it, and settle the lease."""
    lease = rig.lease()
    peer = rig.fakes[0].connections[-1]
    for each in happens:
        each(peer)
    settle(lease)
    del lease
    gc.collect()
    rig.turn()


def speaks(peer: FakeConnection) -> None:
    peer.speak(b"an answer")


@SLOTS
@ENDS
@SETTLES
def test_a_connection_that_has_served_nothing_counts_against_its_backend(
    slots: int | None, end: Any, settle: Any
) -> None:
    rig = Grouped(1, slots=slots, limit=3)
    for count in range(1, 4):
        use(rig, settle, end)
        assert failures(rig) == count


@SLOTS
@pytest.mark.parametrize("settle", [released, finished])
def test_a_server_that_closes_after_each_answer_serves_well(slots: int | None, settle: Any) -> None:
    rig = Grouped(1, slots=slots, limit=3)
    for _ in range(10):
        use(rig, settle, speaks, FakeConnection.close)
        assert failures(rig) == 0


@SLOTS
def test_an_answer_that_is_broken_off_counts_unless_its_lessee_is_content(
    slots: int | None,
) -> None:
    rig = Grouped(1, slots=slots, limit=3)
    use(rig, released, speaks, FakeConnection.reset)
    assert failures(rig) == 0
    use(rig, finished, speaks, FakeConnection.reset)
    assert failures(rig) == 1


@SLOTS
@ENDS
def test_a_connection_that_has_served_a_lease_may_end_in_the_next(
    slots: int | None, end: Any
) -> None:
    rig = Grouped(1, slots=slots, limit=3)
    for _ in range(10):
        rig.lease().release()
        use(rig, finished, end)
        assert failures(rig) == 0


@SLOTS
@pytest.mark.parametrize("how", ["loseConnection", "abortConnection"])
def test_a_connection_that_its_lessee_ends_counts_against_nobody(
    slots: int | None, how: str
) -> None:
    rig = Grouped(1, slots=slots, limit=3)
    for _ in range(10):
        lease = rig.lease()
        getattr(lease.protocol.transport, how)()
        rig.turn()
        lease.finished()
        rig.turn()
    assert failures(rig) == 0


def test_a_shared_connection_counts_once() -> None:
    rig = Grouped(1, slots=5, limit=1)
    leases = [rig.lease() for _ in range(5)]
    rig.fakes[0].connections[0].reset()
    for each in leases:
        each.finished()
    assert failures(rig) == 1


def test_a_shared_connection_that_served_one_lessee_has_served() -> None:
    rig = Grouped(1, slots=5, limit=1)
    leases = [rig.lease() for _ in range(5)]
    leases.pop().release()
    rig.fakes[0].connections[0].reset()
    for each in leases:
        each.finished()
    assert failures(rig) == 0


@pytest.mark.parametrize("hook", ["prepare", "check"])
def test_what_came_in_a_hook_is_no_answer(hook: str) -> None:
    rig = Grouped(1, limit=3, check_after=1.0, min_idle=1, **{hook: lambda protocol: None})
    rig.lease().finished()
    rig.turn()
    rig.clock.advance(1.0)
    peer = rig.fakes[0].connections[-1]
    lease = rig.lease()
    peer.reset()
    lease.finished()
    assert failures(rig) == 1


def test_a_connection_that_was_reset_after_a_lease_has_served_something() -> None:
    rig = Grouped(1, limit=1, reset=repr)
    rig.lease().release()
    use(rig, finished, FakeConnection.reset)
    assert failures(rig) == 0


# The black hole


@SLOTS
@ENDS
@pytest.mark.parametrize("settle", [released, finished])
@pytest.mark.parametrize("through", ["group", "select"])
def test_a_backend_that_ends_every_lease_does_not_draw_the_load(
    slots: int | None, end: Any, settle: Any, through: str
) -> None:
    clock = Clock()
    fakes = [FakeBackend(clock) for _ in range(3)]
    backends = [Backend(fake, name=str(number)) for number, fake in enumerate(fakes)]
    pool: Pool[Any] = Pool(clock, Protocol, policy=Policy(limit=20, slots=slots))
    group = pool.group(backends, balance.fill_first)
    served: Counter[str] = Counter()

    def use(lease: Lease[Any]) -> None:
        served[str(lease.backend)] += 1
        if str(lease.backend) == "0":
            for each in fakes[0].connections:
                clock.callLater(0.001, end, each)
            clock.callLater(0.002, settle, lease)
        else:
            clock.callLater(0.02, lease.release)

    for _ in range(200):
        asked = (
            group.connect("us")
            if through == "group"
            else pool.select("us", backends, balance.fill_first)
        )
        asked.addCallback(use)
        clock.pump([0.001] * 10)
    clock.advance(1.0)
    assert served["0"] < 40
    assert sum(served.values()) == 200


def test_a_backend_that_ends_every_lease_is_admitted_when_it_serves() -> None:
    rig = Grouped(2, limit=3)
    for _ in range(5):
        use(rig, finished, FakeConnection.reset)
    assert str(rig.lease().backend) == "b"
    rig.clock.advance(5.0)
    lease = rig.lease()
    assert str(lease.backend) == "a"
    lease.release()
    assert result_of(rig.ask()).reused
