"""C{UseRules}: what the users of a pool do at random: requests, leases and owners."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone

from kolus import KolusError
from tests.rigs.draws import (
    COUNTS,
    FRESH,
    SECONDS,
    SETTLINGS,
    SIDES,
    THEN,
    TIMEOUTS,
    TIMES,
    WARMED,
    WHICH,
)
from tests.rigs.rules import Rules

__all__ = ["UseRules"]

ENDS = st.sampled_from(["to its end", "raises", "is cancelled"])


class UseRules(Rules):
    """Asks for leases, settles them, and ends owners."""

    # Requests

    @rule(
        side=SIDES,
        ident=WHICH,
        timeout=TIMEOUTS,
        owner=WHICH,
        then=THEN,
        times=TIMES,
        fresh=FRESH,
    )
    def ask(
        self,
        side: int,
        ident: int,
        timeout: float | None,
        owner: int,
        then: str,
        times: int,
        fresh: bool,
    ) -> None:
        for _ in range(times):
            self.ledger.ask(
                self.ident(ident),
                self.ledger.backends[side],
                timeout,
                self.owner(owner),
                then,
                fresh=fresh,
            )

    @precondition(lambda self: self.ledger.managers)
    @rule(which=WHICH, timeout=TIMEOUTS, fresh=FRESH)
    def ask_manager(self, which: int, timeout: float | None, fresh: bool) -> None:
        """Ask a manager directly. It may be closed."""
        manager = self.ledger.managers[which % len(self.ledger.managers)]
        self.ledger.ask(manager.ident, manager.backend, timeout, manager=manager, fresh=fresh)

    @rule(side=SIDES, ident=WHICH, owner=WHICH, fresh=FRESH)
    def try_connect(self, side: int, ident: int, owner: int, fresh: bool) -> None:
        backend = self.ledger.backends[side]
        with suppress(KolusError):
            self.ledger.try_connect(self.ident(ident), backend, self.owner(owner), fresh)

    @rule(side=SIDES, ident=WHICH, timeout=TIMEOUTS, owner=WHICH, fresh=FRESH)
    def enter(self, side: int, ident: int, timeout: float | None, owner: int, fresh: bool) -> None:
        """Ask by C{async with pool.connect(...)}. The block runs until C{leave} ends it."""
        backend = self.ledger.backends[side]
        self.ledger.enter(self.ident(ident), backend, timeout, self.owner(owner), fresh)

    @precondition(lambda self: self.ledger.blocks)
    @rule(which=WHICH, how=ENDS)
    def leave(self, which: int, how: str) -> None:
        self.ledger.blocks.pop(which % len(self.ledger.blocks)).end(how)

    @precondition(lambda self: self.ledger.waiting())
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        self._cancel(which)

    def _cancel(self, which: int) -> None:
        waiting = self.ledger.waiting()
        if waiting:
            asked = waiting[which % len(waiting)].deferred
            assert asked is not None
            asked.cancel()

    @rule(side=SIDES, ident=WARMED, count=COUNTS, timeout=TIMEOUTS)
    def warm(self, side: int, ident: int | None, count: int, timeout: float | None) -> None:
        self.ledger.warm(self.warmed(ident), self.ledger.backends[side], count, timeout)

    @precondition(lambda self: self.ledger.wishes)
    @rule(which=WHICH)
    def stop_warming(self, which: int) -> None:
        self.ledger.wishes[which % len(self.ledger.wishes)].told.cancel()

    # Leases

    @precondition(lambda self: self.ledger.holding())
    @rule(which=WHICH, how=st.sampled_from(SETTLINGS))
    def settle(self, which: int, how: str) -> None:
        self._settle(which, how)

    def _settle(self, which: int, how: str) -> None:
        leases = self.ledger.holding()
        if not leases:
            return
        lease = leases[which % len(leases)]
        if how in ("abort", "close"):
            self.ledger.blows += 1
            transport = lease.protocol.transport
            transport.abortConnection() if how == "abort" else transport.loseConnection()
            how = "release"
        self.ledger.settle(lease, how)

    @precondition(lambda self: self.ledger.holding())
    @rule(which=WHICH, keep_slot=st.booleans())
    def detach(self, which: int, keep_slot: bool) -> None:
        self._detach(which, keep_slot)

    def _detach(self, which: int, keep_slot: bool) -> None:
        leases = self.ledger.holding()
        if leases:
            self.ledger.detach(leases[which % len(leases)], keep_slot)

    @precondition(lambda self: self.ledger.holding())
    @rule(which=WHICH)
    def leave_work_under_way(self, which: int) -> None:
        """From now on the policy's C{clean} is to give C{False} for this connection."""
        leases = self.ledger.holding()
        leases[which % len(leases)].leasable.protocol.under_way = True

    @precondition(lambda self: self.ledger.holding())
    @rule(which=WHICH, seconds=SECONDS)
    def observe(self, which: int, seconds: float) -> None:
        leases = self.ledger.holding()
        leases[which % len(leases)].observe(seconds)

    @precondition(lambda self: self.ledger.forgettable())
    @rule(which=WHICH)
    def forget(self, which: int) -> None:
        self.ledger.forget(which)

    @precondition(lambda self: self.ledger.forgettable())
    @rule(which=WHICH, how=ENDS)
    def block(self, which: int, how: str) -> None:
        """Settle a lease by the end of an C{async with} block."""
        lease = self.ledger.held.pop(which % len(self.ledger.held))
        gate: Deferred[None] = Deferred()

        async def block() -> None:
            async with lease:
                await gate

        running = Deferred.fromCoroutine(block())
        running.addErrback(lambda failure: None)
        if how == "to its end":
            gate.callback(None)
        elif how == "raises":
            gate.errback(ZeroDivisionError())
        else:
            running.cancel()
        assert not lease.held

    # Owners

    @rule(kind=st.sampled_from([Deferred, Protocol, Service]))
    def new_owner(self, kind: Any) -> None:
        self.owners.append(kind())

    @precondition(lambda self: self.owners)
    @rule(which=WHICH, forget=st.booleans())
    def end_owner(self, which: int, forget: bool) -> None:
        owner = self.owners[which % len(self.owners)]
        if isinstance(owner, Deferred):
            if not owner.called:
                owner.callback(None)
        elif isinstance(owner, Protocol):
            owner.connectionLost(connectionDone)
        else:
            owner.stopService()
        if not self.ledger.trapped:
            owned = [self.ledger.owner_of[each] for each in self.ledger.holding()]
            owned += [each.owner for each in self.ledger.waiting()]
            assert not any(each is owner for each in owned), "what an ended owner has"
        if owner in self.owners and (forget or isinstance(owner, Protocol)):
            self.owners.remove(owner)
