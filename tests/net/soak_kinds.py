"""The kinds of callers of the soak, one function each: what one does with a lease in one turn.

A new kind is one more function here, and its name in C{KINDS}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.net.soak_callers import Caller, Kind, Mischief

__all__ = ["KINDS"]


async def polite(caller: Caller) -> None:
    """Does all as the README says."""
    async with await caller.lease() as lease:
        await caller.talk(lease.protocol)


async def settling_by_hand(caller: Caller) -> None:
    """Releases, or finishes, and needs no block for it."""
    lease = await caller.lease()
    try:
        await caller.talk(lease.protocol)
    except BaseException:
        lease.finished()
        raise
    if caller.rng.random() < 0.3:
        lease.finished()
    else:
        lease.release()


async def opportunist(caller: Caller) -> None:
    """Takes what is free, and does not wait for it."""
    lease = caller.lease_at_once()
    if lease is not None:
        async with lease:
            await caller.talk(lease.protocol)


async def slow(caller: Caller) -> None:
    """Holds its lease for a time without a word, in which the connection may go."""
    async with await caller.lease() as lease:
        await caller.sleep(caller.rng.uniform(0.0, 0.2))
        await caller.talk(lease.protocol)


async def impatient(caller: Caller) -> None:
    """Waits but a moment for its lease, and then but a moment for its replies."""
    async with await caller.lease(timeout=caller.rng.uniform(0.0, 0.3)) as lease:
        talk = Deferred.fromCoroutine(caller.talk(lease.protocol))
        await talk.addTimeout(caller.rng.uniform(0.0, 0.02), caller.crowd.reactor)


async def cancelled(caller: Caller) -> None:
    """Is cancelled at any moment: in the queue, or in the middle of its commands."""
    turn = Deferred.fromCoroutine(polite(caller))
    cancelling = caller.crowd.reactor.callLater(caller.rng.uniform(0.0, 0.3), turn.cancel)
    try:
        await turn
    finally:
        if cancelling.active():
            cancelling.cancel()


async def forgetful(caller: Caller) -> None:
    """Drops its lease, with a reply to come or without; every second one leaves it in a cycle."""
    lease = await caller.lease()
    caller.crowd.forgotten += 1
    if caller.rng.random() < 0.5:
        cycle: list[object] = [lease]
        cycle.append(cycle)
    if caller.rng.random() < 0.5:
        caller.ask_and_leave(lease.protocol)
    else:
        await caller.talk(lease.protocol)


async def raising(caller: Caller) -> None:
    """Raises while it holds its lease, with a reply to come or without."""
    async with await caller.lease() as lease:
        if caller.rng.random() < 0.5:
            caller.ask_and_leave(lease.protocol)
        else:
            await caller.talk(lease.protocol)
        raise Mischief


async def owned(caller: Caller) -> None:
    """Settles nothing itself: the lease ends with its owner, with a reply to come or without.

    The owner may end while it still waits for the lease.
    """
    owner: Deferred[None] = Deferred()
    ending = caller.crowd.reactor.callLater(caller.rng.uniform(0.0, 0.3), owner.callback, None)
    try:
        lease = await caller.lease(owner=owner)
        if caller.rng.random() < 0.5:
            caller.ask_and_leave(lease.protocol)
        else:
            await caller.talk(lease.protocol)
    finally:
        if ending.active():
            ending.cancel()
            owner.callback(None)


KINDS: tuple[Kind, ...] = (
    *(polite, polite, polite, polite),
    *(settling_by_hand, settling_by_hand),
    *(opportunist, opportunist),
    *(slow, impatient, cancelled, forgetful, raising, owned),
)
"""A kind is as frequent as it is named here often."""
