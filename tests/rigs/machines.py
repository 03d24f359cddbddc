"""State machines that use a pool at random: both managers, and the three policies of idents."""

from __future__ import annotations

import sys
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from kolus import Policy
from tests.rigs.backend_rules import BackendRules
from tests.rigs.draws import HOOKS, POOL_LIMITS, REACTIONS, SETTINGS, TRIGGERS, WHICH, agreeing
from tests.rigs.invariants import check, check_the_end
from tests.rigs.ledger import Ledger
from tests.rigs.operation_rules import OperationRules
from tests.rigs.speakers import SLOTS, Halved, Multiplexed, Speaker
from tests.rigs.use_rules import UseRules

__all__ = ["PLAIN_MACHINES", "Machine", "SharedMachine"]


class Machine(UseRules, BackendRules, OperationRules):
    """Makes random calls to a pool, and checks the invariants after each."""

    look_every = 1
    """At the end, everything is checked after so many seconds."""

    @initialize(
        settings=st.fixed_dictionaries(SETTINGS),
        hooks=HOOKS,
        limit=POOL_LIMITS,
        seed=WHICH,
        kind=st.sampled_from([Speaker, Halved, Multiplexed]),
        observed=st.sampled_from([True, True, False]),
    )
    def begin(
        self,
        settings: dict[str, Any],
        hooks: list[str],
        limit: int | None,
        seed: int,
        kind: type[Speaker],
        observed: bool,
    ) -> None:
        if self.slots is not None:
            hooks = [each for each in hooks if each not in ("reset", "clean")]
        # Each hook looks up the ledger when it runs: the ledger is made after the policy.
        run = {name: lambda protocol, name=name: self.ledger.hook(name)(protocol) for name in hooks}
        policy = Policy(
            slots=self.slots,
            idents=self.idents,
            connect_timeout=2.0,
            **(agreeing(settings, hooks, limit) | run),
        )
        self.ledger = Ledger(policy, seed, kind, limit, observed=observed, count=self.count)
        self.owners = []
        self.endings = []
        self.age = 0
        self.prepare()

    def prepare(self) -> None:
        """Called when the ledger has been made."""

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
        elif what == "detach":
            self._detach(which, which % 2 == 1)
        elif what in ("reset", "close"):
            self._disturb(which, what)
        elif what in ("ask", "fresh"):
            ledger.ask(self.ident(which), backend, 1.0, then="release", fresh=what == "fresh")
        elif what == "try":
            self.try_connect(0, which, 0, which % 2 == 1)
        elif what == "warm":
            ledger.warm(self.ident(which), backend, which % 3 + 1, 1.0)
        elif what == "leave" and ledger.blocks:
            self.leave(which, "raises")
        elif what == "resize":
            self._resize(0, which % 5 + 1)
        elif what == "limit":
            self.resize_pool(which % 4 or None)
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
        for second in range(80):
            for lease in tuple(ledger.holding()):
                ledger.settle(lease, "release")
            ledger.clock.advance(1)
            if second % self.look_every == 0:
                check(ledger)
        ledger.reclaim()
        left = f"in better times somebody still waits: {ledger.pool.explain()}"
        assert not ledger.waiting(), left
        if self.idents != "separate":  # else what is idle for another ident may be in the way
            assert not any(each.waits() for each in ledger.wishes), left
        for block in ledger.blocks:
            block.end("to its end")
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
