"""Rule 26: a forked child cannot use its parent's pool, and does not harm it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from kolus import LeaseError
from kolus.testing import result_of
from tests.rigs.pools import Pooled
from tests.support.test_fork import in_child, pytestmark

__all__ = ["pytestmark"]


class Forking(Pooled):
    """A pool with four leases out at its first backend, and one connection idle there.

    @ivar lease: the first of the leases.
    @ivar others: the others.
    """

    def __init__(self, **policy: Any) -> None:
        super().__init__(**({"limit": 5} | policy))
        self.lease, *self.others = [result_of(self.ask()) for _ in range(4)]
        result_of(self.ask()).release()

    def ask(self) -> Deferred[Any]:
        return self.pool.connect("us", self.backends[0])


def outcome(action: Callable[[], object]) -> str:
    """What became of it, the errors of a Deferred included."""
    try:
        result = action()
        if isinstance(result, Deferred):
            result = result_of(result)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return repr(result)


USES: dict[str, Callable[[Forking], object]] = {
    "connect": lambda rig: rig.ask(),
    "connect to a new backend": lambda rig: rig.pool.connect("us", rig.backends[1]),
    "connect as another": lambda rig: rig.pool.connect("them", rig.backends[0]),
    "try_connect": lambda rig: rig.pool.try_connect("us", rig.backends[0]),
    "try_connect to a new backend": lambda rig: rig.pool.try_connect("us", rig.backends[1]),
    "select": lambda rig: rig.pool.select("us", rig.backends),
    "the manager's connect": lambda rig: rig.lease.manager.connect("us"),
    "the manager's try_connect": lambda rig: rig.lease.manager.try_connect("us"),
    "write": lambda rig: rig.lease.protocol.transport.write(b"from the child"),
    "close the connection": lambda rig: rig.lease.protocol.transport.loseConnection(),
    "release": lambda rig: rig.lease.release(),
    "finished": lambda rig: rig.others[0].finished(),
    "return_": lambda rig: rig.pool.return_(rig.others[1]),
    "get_socket": lambda rig: rig.pool.get_socket(rig.others[2]),
    "detach": lambda rig: rig.others[2].detach(),
    "drain": lambda rig: rig.pool.drain(rig.backends[0]),
    "the manager's drain": lambda rig: rig.lease.manager.drain(),
    "close": lambda rig: rig.pool.close(0),
    "the manager's close": lambda rig: rig.lease.manager.close(0),
    "pause": lambda rig: rig.pool.pause(),
    "resume": lambda rig: rig.pool.resume(),
    "resize": lambda rig: rig.pool.resize(1),
    "invalidate": lambda rig: rig.pool.invalidate(),
    "the manager's pause": lambda rig: rig.lease.manager.pause(),
    "the manager's resume": lambda rig: rig.lease.manager.resume(),
    "the manager's resize": lambda rig: rig.lease.manager.resize(1),
    "the manager's invalidate": lambda rig: rig.lease.manager.invalidate(),
}


@pytest.mark.parametrize("slots", [None, 1], ids=["exclusive", "shared"])
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_whatever_a_child_does_with_its_parents_pool_is_a_lease_error(
    slots: int | None, debug: bool
) -> None:
    rig = Forking(slots=slots, debug=debug)
    report = in_child(
        lambda: "\n".join(f"{each}: {outcome(partial(use, rig))}" for each, use in USES.items())
    )
    lines = report.splitlines()
    assert len(lines) == len(USES)
    for line in lines:
        assert "LeaseError: " in line, line
        assert "process" in line, line
    rig.lease.protocol.transport.write(b"from the parent")
    assert b"from the parent" in [each.received for each in rig.fakes[0].connections]


@pytest.mark.parametrize("slots", [None, 1], ids=["exclusive", "shared"])
def test_a_child_that_uses_everything_touches_no_connection(slots: int | None) -> None:
    rig = Forking(slots=slots)

    def use_everything() -> str:
        for use in USES.values():
            outcome(partial(use, rig))
        rig.clock.pump([1] * 2000)
        return f"{len(rig.fakes[0].connections)} of {len(rig.fakes[0].accepted)}"

    assert in_child(use_everything) == "5 of 5"


def test_what_a_child_finds_where_it_waited_never_fires() -> None:
    rig = Forking()
    second = result_of(rig.ask())
    waiting = rig.ask()

    def wait() -> str:
        rig.clock.pump([1] * 10)
        return outcome(lambda: waiting)

    assert in_child(wait).startswith("NotFired")
    second.release()
    result_of(waiting).release()


def test_a_lease_that_a_child_drops_is_not_reclaimed_there() -> None:
    rig = Forking()

    def drop() -> str:
        del rig.lease
        rig.clock.pump([0, 0])
        return f"{len(rig.fakes[0].connections)} {rig.pool.counters().forgotten}"

    assert in_child(drop) == "5 0"
    assert rig.lease.held


def test_a_child_may_have_a_pool_of_its_own() -> None:
    Forking()
    assert in_child(lambda: str(Forking().lease.held)) == "True"


def test_what_a_childs_child_does_is_a_lease_error_too() -> None:
    rig = Forking()
    assert "LeaseError" in in_child(lambda: in_child(lambda: outcome(rig.ask)))


@pytest.mark.parametrize("slots", [None, 1], ids=["exclusive", "shared"])
def test_the_parent_goes_on_as_if_nothing_had_been(slots: int | None) -> None:
    rig = Forking(slots=slots)
    in_child(lambda: outcome(rig.ask))
    for lease in (rig.lease, *rig.others):
        lease.release()
    (status,) = rig.pool.status(rig.backends[:1])
    assert (status.idle, status.leased) == (5, 0)
    result_of(rig.ask()).release()
    closed = rig.pool.close()
    rig.turn()
    assert result_of(closed) is None


def test_a_lease_that_a_child_settles_stays_held_in_the_parent() -> None:
    rig = Forking()
    report = in_child(lambda: outcome(rig.lease.release) + outcome(rig.lease.release))
    assert report.count(LeaseError.__name__) == 2
    assert rig.lease.held
