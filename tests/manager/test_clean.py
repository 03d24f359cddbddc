"""C{Policy(clean=...)}: what is clean stays, what is not is finished."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.protocol import Protocol
from twisted.logger import LogEvent

from kolus import Lease, LeaseError, Policy
from kolus.events import Finished, Released, Retired, Why
from kolus.metrics import Metrics
from kolus.testing import result_of
from tests.conftest import LoggedFailures
from tests.rigs.pools import Managed, Pooled


class Busy(Protocol):
    """Knows how many requests are under way."""

    under_way = 0


def is_clean(protocol: Any) -> bool:
    return bool(protocol.under_way == 0)


def use(lease: Lease[Any], error: BaseException | None, under_way: int = 0) -> None:
    """Leave the block of a lease, by an error if there is one."""

    async def block() -> None:
        async with lease:
            lease.protocol.under_way = under_way
            if error is not None:
                raise error

    done = Deferred.fromCoroutine(block())
    if error is not None:
        done.addErrback(lambda failure: failure.trap(type(error)))
    result_of(done)


ERRORS = [ValueError("mine"), CancelledError(), KeyboardInterrupt()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("debug", [False, True])
def test_an_exception_that_leaves_the_block_releases_what_is_clean(
    debug: bool, error: BaseException
) -> None:
    rig = Managed(Busy, clean=is_clean, debug=debug)
    use(rig.lease(), error)
    assert rig.numbers()[:2] == (1, 0)
    assert rig.manager.counters.releases == 1
    assert rig.lease().reused


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_exception_that_leaves_the_block_finishes_what_is_not_clean(
    error: BaseException,
) -> None:
    rig = Managed(Busy, clean=is_clean)
    use(rig.lease(), error, under_way=1)
    rig.turn()
    assert rig.numbers()[:2] == (0, 0)
    counters = rig.manager.counters
    assert (counters.finishes, counters.unclean) == (1, 0), "it was not released"


def test_without_clean_an_exception_finishes_the_lease() -> None:
    rig = Managed(Busy)
    use(rig.lease(), ValueError())
    assert rig.manager.counters.finishes == 1


def test_without_clean_what_is_released_counts_as_clean() -> None:
    rig = Managed(Busy)
    use(rig.lease(), None, under_way=1)
    assert rig.lease().reused


@pytest.mark.parametrize("debug", [False, True])
def test_a_release_of_what_is_not_clean_finishes_it_and_says_so(
    debug: bool, log_events: list[LogEvent]
) -> None:
    rig = Managed(Busy, observed=True, clean=is_clean, debug=debug)
    metrics = Metrics()
    rig.manager.observers.append(metrics)
    rig.clock.advance(1)
    lease = rig.lease()
    rig.clock.advance(2)
    lease.protocol.under_way = 1
    lease.release()
    rig.turn()
    assert not rig.fake.connections
    counters = rig.manager.counters
    assert (counters.releases, counters.finishes, counters.unclean) == (0, 1, 1)
    ends = [each for each in rig.events if isinstance(each, Released | Finished | Retired)]
    assert ends == [
        Finished(rig.manager.backend, "us", 2.0),
        Retired(rig.manager.backend, "us", Why.UNCLEAN),
    ]
    assert metrics.total().closes == {"not clean": 1}
    (told,) = [each for each in log_events if "under way" in each.get("log_format", "")]
    assert ("test_clean.py" in told["origin"]) is debug


def test_a_release_of_what_is_clean_is_a_release() -> None:
    rig = Managed(Busy, clean=is_clean)
    for _ in range(3):
        rig.lease().release()
    counters = rig.manager.counters
    assert (counters.releases, counters.finishes, counters.unclean) == (3, 0, 0)
    assert rig.fake.attempts == 1


def test_a_waiter_gets_another_connection_than_the_one_that_is_not_clean() -> None:
    rig = Managed(Busy, clean=is_clean, limit=1)
    first, asked = rig.lease(), rig.ask()
    protocol = first.protocol
    protocol.under_way = 1
    first.release()
    rig.turn()
    assert result_of(asked).protocol is not protocol


def test_what_is_not_clean_is_not_reset() -> None:
    asked: list[str] = []

    def clean(protocol: Any) -> bool:
        asked.append("clean")
        return is_clean(protocol)

    rig = Managed(Busy, clean=clean, reset=lambda protocol: asked.append("reset"))
    rig.lease().release()
    lease = rig.lease()
    lease.protocol.under_way = 1
    lease.release()
    assert asked == ["clean", "reset", "clean"]


def test_clean_is_not_asked_of_what_is_finished_or_closed_or_detached() -> None:
    asked: list[Any] = []
    rig = Managed(Busy, clean=lambda protocol: asked.append(protocol) or True, limit=4)
    leases = [rig.lease() for _ in range(4)]
    leases[0].finished()
    leases[1].finished(failed=True)
    leases[2].protocol.transport.loseConnection()
    leases[2].release()
    leases[3].detach()
    assert asked == []


async def later(protocol: Any) -> bool:
    return True


def raises(protocol: Any) -> bool:
    raise RuntimeError("the hook is broken")


WRONG: dict[str, Callable[[Any], Any]] = {
    "raises": raises,
    "a coroutine": later,
    "a Deferred": lambda protocol: Deferred(),
    "a failed Deferred": lambda protocol: fail(RuntimeError()),
    "None": lambda protocol: None,
    "a number": lambda protocol: 1,
}


@pytest.mark.parametrize("leave", ["release", "an exception"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_clean_that_raises_or_returns_no_bool_costs_the_connection_and_says_so(
    wrong: str, leave: str, log_events: list[LogEvent], logged_failures: LoggedFailures
) -> None:
    rig = Managed(Busy, clean=WRONG[wrong])
    use(rig.lease(), None if leave == "release" else ValueError())
    rig.turn()
    assert not rig.fake.connections
    counters = rig.manager.counters
    assert (counters.finishes, counters.unclean) == (1, 0)
    (told,) = [each for each in log_events if each.get("hook") == "clean"]
    assert "broken" in told["error"] or "not True or False" in told["error"]


def test_a_clean_that_closes_the_connection_costs_it() -> None:
    def clean(protocol: Any) -> bool:
        protocol.transport.loseConnection()
        return True

    rig = Managed(Busy, clean=clean, limit=1)
    first, asked = rig.lease(), rig.ask()
    first.release()
    rig.turn()
    assert not result_of(asked).reused
    assert len(rig.fake.connections) == 1


def test_a_clean_that_closes_the_manager_leaves_nothing_open() -> None:
    rig = Managed(Busy, clean=lambda protocol: bool(rig.manager.close(0)) or True)
    rig.lease().release()
    rig.turn()
    assert not rig.fake.connections
    result_of(rig.manager.when_closed())


@pytest.mark.parametrize("before", ["drain", "invalidate", "close"])
def test_what_is_clean_is_closed_if_it_must_not_be_used_again(before: str) -> None:
    rig = Managed(Busy, clean=is_clean)
    lease = rig.lease()
    {
        "drain": rig.manager.drain,
        "invalidate": rig.manager.invalidate,
        "close": lambda: rig.manager.close(10),
    }[before]()
    use(lease, ValueError())
    rig.turn()
    assert not rig.fake.connections


def test_an_owner_that_ends_finishes_what_is_clean_too() -> None:
    rig = Managed(Busy, clean=is_clean)
    owner: Deferred[None] = Deferred()
    lease = result_of(rig.manager.connect("us", owner=owner))
    owner.callback(None)
    assert not lease.held
    assert rig.manager.counters.finishes == 1


def test_leases_of_groups_are_asked_whether_they_are_clean() -> None:
    rig = Pooled(clean=lambda protocol: False)
    group = rig.pool.group(rig.backends)
    result_of(group.connect("us")).release()
    result_of(rig.pool.select("us", rig.backends)).release()
    assert rig.pool.counters().unclean == 2


def test_clean_excludes_slots_and_must_be_callable() -> None:
    with pytest.raises(ValueError, match="slots and clean exclude"):
        Policy(slots=2, clean=is_clean)
    with pytest.raises(TypeError, match="clean must be callable"):
        Policy(clean=True)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_a_lease_of_a_manager_that_knows_nothing_of_clean_is_finished() -> None:
    settled: list[Any] = []

    class Plain:
        manager = protocol = None

        @property
        def leasable(self) -> Plain:
            return self

    lease: Lease[Any] = Lease(Plain(), lambda _, outcome: settled.append(outcome.value))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mine"):
        async with lease:
            raise ValueError("mine")
    assert settled == ["finished"]


@pytest.mark.parametrize("leave", ["release", "an exception"])
def test_a_forked_child_asks_nobody_whether_a_lease_is_clean(leave: str) -> None:
    asked: list[Any] = []
    rig = Managed(Busy, clean=lambda protocol: bool(asked.append(protocol)))
    lease = rig.lease()
    rig.manager.process.forked()
    with pytest.raises(LeaseError):
        use(lease, None if leave == "release" else ValueError())
    assert asked == []
