"""C{async with} on the very request that C{connect} gives: the block has the lease."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from kolus import (
    Backend,
    ConnectFailed,
    ConnectionManager,
    IKolusManager,
    Lease,
    LeaseError,
    LeaseTimeout,
    NoBackend,
    Policy,
    Pool,
    PoolFull,
    WrongIdent,
)
from kolus.testing import NotFired, result_of
from kolus.testing.results import failure_of
from tests.rigs.groups import Teller
from tests.rigs.idents import Idents
from tests.rigs.sharing import Hears

Ask = Callable[..., Any]

WAYS: dict[str, Callable[[Idents], Ask]] = {
    "pool.connect": lambda rig: lambda **how: rig.pool.connect("u", rig.backend, **how),
    "pool.select": lambda rig: lambda **how: rig.pool.select("u", [rig.backend], **how),
    "group.connect": lambda rig: _as_u(rig.pool.group([rig.backend]).connect),
    "a group of two": lambda rig: _as_u(rig.pool.group([rig.backend, rig.other]).connect),
    "manager.connect": lambda rig: lambda **how: rig.manager("u").connect("u", **how),
}


def _as_u(connect: Callable[..., Any]) -> Ask:
    return lambda **how: connect("u", **how)


class Entered(Idents):
    """One backend with a limit of one, and the ways to ask for it.

    @ivar other: a backend that refuses.
    """

    def __init__(self, **policy: Any) -> None:
        super().__init__(policy.pop("idents", None), **({"limit": 1} | policy))
        self.lease("u").release()
        self.other = Backend(_refusing(self), name="other")

    def idle(self) -> int | None:
        return self.pool.status([self.backend])[0].idle


def _refusing(rig: Idents) -> Any:
    fake = type(rig.fake)(rig.clock)
    fake.refuse(always=True)
    return fake


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Callable[[Idents], Ask]:
    found: Callable[[Idents], Ask] = WAYS[request.param]
    return found


@pytest.fixture(params=[None, 1], ids=["exclusive", "shared"])
def rig(request: pytest.FixtureRequest) -> Entered:
    return Entered(slots=request.param)


def run(block: Callable[[], Awaitable[Any]]) -> Deferred[Any]:
    async def body() -> Any:
        return await block()

    return Deferred.fromCoroutine(body())


def test_a_block_has_the_lease_and_its_end_releases_it(rig: Entered, way: Any) -> None:
    ask = way(rig)
    seen: list[Lease[Any]] = []

    async def block() -> None:
        async with ask() as lease:
            assert lease.held
            assert lease.protocol.transport is not None
            seen.append(lease)

    result_of(run(block))
    assert not seen[0].held
    assert rig.idle() == 1
    assert rig.pool.counters().releases == 2
    rig.end()


def test_a_block_that_has_to_wait_begins_when_it_is_served(rig: Entered, way: Any) -> None:
    ask, held = way(rig), rig.lease("u")
    begun: list[bool] = []

    async def block() -> None:
        async with ask() as lease:
            begun.append(lease.held)

    task = run(block)
    rig.turn()
    assert begun == []
    held.release()
    rig.turn()
    result_of(task)
    assert begun == [True]
    assert rig.idle() == 1
    rig.end()


def test_an_exception_that_leaves_the_block_finishes_the_lease(rig: Entered, way: Any) -> None:
    ask = way(rig)

    async def block() -> None:
        async with ask():
            raise KeyError("mine")

    failure_of(KeyError, run(block))
    assert rig.pool.counters().finishes == 1
    rig.turn()
    assert not rig.open()
    rig.end()


def test_a_block_may_settle_its_lease_itself(rig: Entered, way: Any) -> None:
    ask = way(rig)

    async def block(error: bool) -> None:
        async with ask() as lease:
            lease.release()
            if error:
                raise KeyError("mine")

    result_of(run(lambda: block(False)))
    failure_of(KeyError, run(lambda: block(True)))
    assert rig.pool.counters().releases == 3
    assert rig.idle() == 1
    rig.end()


def test_cancelling_while_it_waits_enters_nothing_and_loses_nothing(rig: Entered, way: Any) -> None:
    ask, held = way(rig), rig.lease("u")

    async def block() -> None:
        async with ask():
            raise AssertionError

    task = run(block)
    task.cancel()
    failure_of(CancelledError, task)
    assert rig.pool.status([rig.backend])[0].waiting == 0
    held.release()
    assert rig.idle() == 1
    rig.end()


def test_cancelling_inside_the_block_finishes_the_lease(rig: Entered, way: Any) -> None:
    ask = way(rig)

    async def block() -> None:
        async with ask():
            await Deferred()

    task = run(block)
    with pytest.raises(NotFired):
        result_of(task)
    task.cancel()
    failure_of(CancelledError, task)
    assert rig.pool.counters().finishes == 1
    rig.end()


def test_entering_raises_what_the_request_failed_with(rig: Entered, way: Any) -> None:
    ask, held = way(rig), rig.lease("u")

    async def block(**how: Any) -> None:
        async with ask(**how):
            raise AssertionError

    late = run(lambda: block(timeout=1.0))
    ended = Deferred[None]()
    ended.callback(None)
    refused = run(lambda: block(owner=ended))
    failure_of(LeaseError, refused)
    rig.clock.advance(1)
    failure_of(LeaseTimeout, late)
    held.release()
    rig.end()


@pytest.mark.parametrize(
    ("policy", "error"),
    [({"max_waiters": 0}, PoolFull), ({"idents": "reject"}, WrongIdent)],
)
def test_entering_raises_what_refused_the_request(
    policy: dict[str, Any], error: type[Exception]
) -> None:
    rig = Entered(**policy)
    held = rig.lease("u")
    who = "them" if error is WrongIdent else "u"
    group = rig.pool.group([rig.backend])
    asks = [
        lambda: rig.pool.connect(who, rig.backend),
        lambda: rig.pool.select(who, [rig.backend]),
        lambda: group.connect(who),
    ]

    async def block(ask: Any) -> None:
        async with ask():
            raise AssertionError

    for ask in asks:
        failure_of(error, run(lambda ask=ask: block(ask)))
    held.release()
    rig.end()


def test_a_backend_that_refuses_raises_on_entry() -> None:
    rig = Entered()
    group = rig.pool.group([rig.other])
    asks = [
        lambda: rig.pool.connect("u", rig.other),
        lambda: rig.pool.select("u", [rig.other]),
        lambda: group.connect("u"),
    ]

    async def block(ask: Any) -> None:
        async with ask():
            raise AssertionError

    for ask in asks:
        failure_of(ConnectFailed, run(lambda ask=ask: block(ask)))
    rig.end()


def test_a_group_can_be_entered_before_it_has_a_list() -> None:
    rig = Entered()
    source = Teller()
    group = rig.pool.group(source)
    seen: list[Any] = []

    async def block(**how: Any) -> None:
        async with group.connect("u", **how) as lease:
            seen.append(lease.backend)

    task, late, gone = run(block), run(lambda: block(timeout=0.5)), run(block)
    gone.cancel()
    failure_of(CancelledError, gone)
    rig.clock.advance(0.5)
    failure_of(NoBackend, late)
    source.tell(rig.backend)
    result_of(task)
    assert seen == [rig.backend]
    assert rig.idle() == 1
    rig.end()


def test_a_request_that_was_awaited_before_can_be_entered_while_it_has_its_lease() -> None:
    rig = Entered()

    async def block() -> None:
        asked = rig.pool.connect("u", rig.backend)
        lease = await asked
        async with asked as same:
            assert same is lease
        with pytest.raises(LeaseError, match="was asked for its connection"):
            async with asked:
                raise AssertionError

    result_of(run(block))
    assert rig.idle() == 1
    rig.end()


def test_a_request_whose_callback_took_the_lease_has_nothing_to_enter() -> None:
    rig = Entered()
    leases: list[Lease[Any]] = []

    async def block() -> None:
        asked = rig.pool.connect("u", rig.backend)
        asked.addCallback(leases.append)
        with pytest.raises(LeaseError, match="got None in place of a lease"):
            async with asked:
                raise AssertionError

    result_of(run(block))
    leases.pop().release()
    rig.end()


def test_a_callback_that_passes_the_lease_on_does_no_harm() -> None:
    rig = Entered()
    seen: list[Lease[Any]] = []

    def note(lease: Lease[Any]) -> Lease[Any]:
        seen.append(lease)
        return lease

    async def block() -> None:
        async with rig.pool.connect("u", rig.backend).addCallback(note) as lease:  # type: ignore[attr-defined]
            assert seen == [lease]

    result_of(run(block))
    assert rig.idle() == 1
    seen.clear()
    rig.end()


# Managers of one's own


@implementer(IKolusManager)
class Plain:
    """A manager whose C{connect} gives a Deferred that is nothing more."""

    def __init__(self, manager: ConnectionManager[Any]) -> None:
        self._manager = manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def connect(self, *args: Any, **kwargs: Any) -> Deferred[Lease[Any]]:
        asked = self._manager.connect(*args, **kwargs)
        plain: Deferred[Lease[Any]] = Deferred(lambda _: asked.cancel())
        asked.chainDeferred(plain)
        return plain


@pytest.mark.parametrize("way", ["pool.connect", "pool.select", "group.connect"])
def test_a_request_at_a_manager_of_ones_own_can_be_entered_too(way: str) -> None:
    rig = Idents(None, limit=1)
    policy = Policy(limit=1)

    def make(backend: Backend, ident: Any) -> Any:
        return Plain(ConnectionManager(rig.clock, Hears, backend, ident, policy))

    rig.pool = Pool(rig.clock, Protocol, policy=policy, make_manager=make)
    ask = WAYS[way](rig)
    done: list[bool] = []

    async def block() -> None:
        async with ask() as lease:
            done.append(lease.held)

    result_of(run(block))
    held = result_of(ask())
    waiting, cancelled = run(block), run(block)
    assert done == [True]
    cancelled.cancel()
    failure_of(CancelledError, cancelled)
    held.release()
    rig.turn()
    result_of(waiting)
    assert done == [True, True]
    assert rig.pool.status([rig.backend])[0].idle == 1
    closed = rig.pool.close(0)
    rig.turn()
    result_of(closed)
