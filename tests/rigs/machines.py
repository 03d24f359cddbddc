"""State machines that use a pool at random: both managers, and the three policies of idents."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone

from kolus import KolusError, Policy
from tests.rigs.draws import (
    HOOKS,
    REACTIONS,
    SECONDS,
    SETTINGS,
    SETTLINGS,
    SIDES,
    THEN,
    TIMEOUTS,
    TIMES,
    TRIGGERS,
    WHICH,
)
from tests.rigs.invariants import check, check_the_end
from tests.rigs.ledger import Ledger
from tests.rigs.speakers import SLOTS, Halved, Multiplexed, Speaker

__all__ = ["PLAIN_MACHINES", "Machine", "SharedMachine"]


class Machine(RuleBasedStateMachine):
    """Makes random calls to a pool, and checks the invariants after each."""

    slots: ClassVar[int | None] = None
    idents: ClassVar[Any] = "reject"
    who: ClassVar[str] = "aaab"
    count: ClassVar[int] = 2
    steps = 0
    """The number of steps of all machines together."""
    ledger: Ledger

    @initialize(
        settings=SETTINGS,
        hooks=HOOKS,
        seed=WHICH,
        kind=st.sampled_from([Speaker, Halved, Multiplexed]),
        observed=st.sampled_from([True, True, False]),
    )
    def begin(
        self,
        settings: dict[str, Any],
        hooks: set[str],
        seed: int,
        kind: type[Speaker],
        observed: bool,
    ) -> None:
        if settings["backoff"] is None:
            settings |= {"fail_fast": True, "min_idle": 0}
        settings["min_idle"] = min(settings["min_idle"], settings["limit"])
        if self.slots is not None:
            hooks -= {"reset"}
        # Each hook looks up the ledger when it runs: the ledger is made after the policy.
        run = {name: lambda protocol, name=name: self.ledger.hook(name)(protocol) for name in hooks}
        policy = Policy(
            slots=self.slots, idents=self.idents, connect_timeout=2.0, **(settings | run)
        )
        self.ledger = Ledger(policy, seed, kind, observed=observed, count=self.count)
        self.owners: list[Any] = []
        self.endings: list[list[object]] = []
        self.age = 0
        self.prepare()

    def prepare(self) -> None:
        """Called when the ledger has been made."""

    def ident(self, which: int) -> str:
        return self.who[which % len(self.who)]

    def owner(self, which: int) -> Any:
        """An owner, which may have ended, or C{None}."""
        places = [None] * 3 + self.owners
        return places[which % len(places)]

    # Requests

    @rule(side=SIDES, ident=WHICH, timeout=TIMEOUTS, owner=WHICH, then=THEN, times=TIMES)
    def ask(
        self, side: int, ident: int, timeout: float | None, owner: int, then: str, times: int
    ) -> None:
        for _ in range(times):
            self.ledger.ask(
                self.ident(ident),
                self.ledger.backends[side],
                timeout,
                self.owner(owner),
                then,
            )

    @precondition(lambda self: self.ledger.managers)
    @rule(which=WHICH, timeout=TIMEOUTS)
    def ask_manager(self, which: int, timeout: float | None) -> None:
        """Ask a manager directly. It may be closed."""
        manager = self.ledger.managers[which % len(self.ledger.managers)]
        self.ledger.ask(manager.ident, manager.backend, timeout, manager=manager)

    @rule(side=SIDES, ident=WHICH, owner=WHICH)
    def try_connect(self, side: int, ident: int, owner: int) -> None:
        backend = self.ledger.backends[side]
        with suppress(KolusError):
            self.ledger.try_connect(self.ident(ident), backend, self.owner(owner))

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
    @rule(which=WHICH, seconds=SECONDS)
    def observe(self, which: int, seconds: float) -> None:
        leases = self.ledger.holding()
        leases[which % len(leases)].observe(seconds)

    @precondition(lambda self: self.ledger.holding())
    @rule(which=WHICH)
    def forget(self, which: int) -> None:
        self.ledger.forget(which)

    @precondition(lambda self: self.ledger.holding())
    @rule(which=WHICH, how=st.sampled_from(["to its end", "raises", "is cancelled"]))
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

    # The backends

    @precondition(lambda self: any(each.connections for each in self.ledger.fakes))
    @rule(which=WHICH, how=st.sampled_from(["close", "reset", "half_close", "speak"]))
    def disturb(self, which: int, how: str) -> None:
        self._disturb(which, how)

    def _disturb(self, which: int, how: str) -> None:
        connections = [each for fake in self.ledger.fakes for each in fake.connections]
        if not connections:
            return
        self.ledger.blows += 1
        connection = connections[which % len(connections)]
        if how == "speak":
            connection.speak(b"out of turn")
        else:
            getattr(connection, how)()

    @rule(
        side=SIDES, how=st.sampled_from(["accept", "refuse"]), after=SECONDS, always=st.booleans()
    )
    def script(self, side: int, how: str, after: float, always: bool) -> None:
        getattr(self.ledger.fakes[side], how)(after=after, always=always)

    @rule(side=SIDES)
    def never_answer(self, side: int) -> None:
        self.ledger.fakes[side].never_answer()

    @rule(
        name=st.sampled_from(["prepare", "check", "reset"]),
        how=st.sampled_from(["succeed", "late", "raise", "refuse", "never", "abort"]),
    )
    def change_hook(self, name: str, how: str) -> None:
        self.ledger.hooks[name] = how

    @precondition(lambda self: self.slots is not None)
    @rule(which=WHICH, slots=st.integers(-1, 4))
    def change_slots(self, which: int, slots: int) -> None:
        protocols = [each for each in self.protocols() if isinstance(each, Multiplexed)]
        if protocols:
            protocols[which % len(protocols)].change(slots)

    @rule(which=WHICH, how=st.sampled_from(["lose", "abort", "loseWrite"]))
    def hang_up(self, which: int, how: str) -> None:
        """Let a protocol close its connection in any state."""
        protocols = self.protocols()
        if protocols:
            self.ledger.blows += 1
            transport = protocols[which % len(protocols)].transport
            getattr(transport, f"{how}Connection", lambda: None)()

    def protocols(self) -> list[Any]:
        connections = [each for manager in self.ledger.managers for each in manager.connections.all]
        return [each.protocol for each in connections if hasattr(each, "protocol")]

    # Time and operation

    @rule(seconds=SECONDS, times=st.sampled_from([1, 1, 10]))
    def wait(self, seconds: float, times: int) -> None:
        for _ in range(times):
            self.ledger.clock.advance(seconds / times)

    @rule(side=st.sampled_from([0, 1, None, 2]), limit=st.integers(1, 5))
    def resize(self, side: int | None, limit: int) -> None:
        if side == 2:
            self.ledger.was_limited = True
            self.ledger.pool.resize_pool(limit)
        else:
            self._resize(side, limit)

    def _resize(self, side: int | None, limit: int) -> None:
        ledger = self.ledger
        chosen = ledger.backends if side is None else [ledger.backends[side]]
        for each in chosen:
            ledger.ceiling[each] = max(ledger.ceiling[each], limit)
        ledger.pool.resize(limit, None if side is None else ledger.backends[side])

    @rule(side=st.sampled_from([0, 1, None]), how=st.sampled_from(["pause", "resume", "resume"]))
    def pause(self, side: int | None, how: str) -> None:
        backend = None if side is None else self.ledger.backends[side]
        getattr(self.ledger.pool, how)(backend)

    @rule(side=st.sampled_from([0, 1, None]))
    def invalidate(self, side: int | None) -> None:
        self.ledger.pool.invalidate(None if side is None else self.ledger.backends[side])

    @precondition(lambda self: self.age % 4 == 3)
    @rule(side=SIDES)
    def drain(self, side: int) -> None:
        self.end(self.ledger.pool.drain(self.ledger.backends[side]))

    @precondition(lambda self: self.age % 8 == 7)
    @rule(which=WHICH, timeout=SECONDS)
    def close(self, which: int, timeout: float) -> None:
        managers = self.ledger.managers
        if managers:
            self.end(managers[which % len(managers)].close(timeout))

    @precondition(lambda self: self.age > 30 and self.age % 8 == 7)
    @rule(timeout=SECONDS)
    def close_pool(self, timeout: float) -> None:
        self.end(self.ledger.pool.close(timeout))

    def end(self, ending: Deferred[None]) -> None:
        results: list[object] = []
        ending.addBoth(results.append)
        self.endings.append(results)

    # From anywhere

    @rule(
        names=st.lists(st.sampled_from(TRIGGERS), min_size=1, max_size=4),
        what=st.sampled_from(REACTIONS),
        which=WHICH,
    )
    def set_traps(self, names: list[str], what: str, which: int) -> None:
        """Set traps: the next events with these names run an action."""
        self.ledger.traps |= dict.fromkeys(names, lambda: self._trap(what, which))

    def _trap(self, what: str, which: int) -> None:
        ledger, backend = self.ledger, self.ledger.backends[0]
        if what == "cancel":
            for _ in ledger.waiting():
                self._cancel(which)
        elif what in ("release", "finished", "abort"):
            self._settle(which, what)
        elif what in ("reset", "close"):
            self._disturb(which, what)
        elif what == "ask":
            ledger.ask(self.ident(which), backend, 1.0, then="release")
        elif what == "try":
            self.try_connect(0, which, 0)
        elif what == "resize":
            self._resize(0, which % 5 + 1)
        elif what in ("pause", "resume", "invalidate", "explain"):
            getattr(ledger.pool, what)()
        elif what == "drain" and not which % 4:
            self.end(ledger.pool.drain(backend))
        elif what == "end" and self.owners:
            self.end_owner(which, False)
        elif what == "other":
            self.do_otherwise(which)

    def do_otherwise(self, which: int) -> None:
        """Actions that only some machines have."""

    # Always

    @invariant()
    def everything_holds(self) -> None:
        Machine.steps += 1
        self.age += 1
        check(self.ledger)
        assert all(len(results) <= 1 for results in self.endings)

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None or not hasattr(self, "ledger"):
            return
        ledger = self.ledger
        for each in self.protocols():
            if self.slots is not None and isinstance(each, Multiplexed):
                each.change(SLOTS)
        ledger.heal()
        for _ in range(80):
            for lease in tuple(ledger.holding()):
                ledger.settle(lease, "release")
            ledger.clock.advance(1)
            check(ledger)
        ledger.reclaim()
        left = f"in better times somebody still waits: {ledger.pool.explain()}"
        assert not ledger.waiting(), left
        for backend in ledger.backends:
            self.end(ledger.pool.drain(backend))
        ledger.clock.pump([0, 0, 0, 0])
        assert all(results == [None] for results in self.endings), "an end never came"
        self.end(ledger.pool.close(0))
        ledger.clock.pump([0, 0, 0, 0])
        check(ledger)
        assert all(results == [None] for results in self.endings), "an end never came"
        check_the_end(ledger)


class SharedMachine(Machine):
    slots = SLOTS


def _machine(base: type[Machine], idents: str) -> type[Machine]:
    name = f"{idents.title()}{base.__name__}"
    who = "aaab" if idents == "reject" else "aabc"
    return type(name, (base,), {"idents": idents, "who": who})


PLAIN_MACHINES = [
    _machine(base, idents)
    for base in (Machine, SharedMachine)
    for idents in ("reject", "replace", "separate")
]
