"""State machines that also use groups at random, and the list of all state machines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from zope.interface import implementer

from kolus import Backend, Closed, Group, ISource, balance
from tests.rigs.draws import COUNTS, FRESH, THEN, TIMEOUTS, WARMED, WHICH
from tests.rigs.group_invariants import check_groups, check_nothing_is_left
from tests.rigs.machines import PLAIN_MACHINES, Machine, SharedMachine
from tests.rigs.pending import Wish

__all__ = ["MACHINES"]

BACKENDS = 3
BALANCERS: list[Callable[[Any, Any], Any]] = [
    lambda clock, chance: balance.fill_first,
    lambda clock, chance: balance.idle_first,
    lambda clock, chance: balance.least_leased,
    lambda clock, chance: balance.round_robin(),
    lambda clock, chance: balance.pick_two(chance),
    lambda clock, chance: balance.peak_ewma(clock, chance),
    lambda clock, chance: balance.prefer_zone("o", balance.pick_two(chance)),
    lambda clock, chance: balance.consistent(7, balance.Ring()),
    lambda clock, chance: lambda statuses: statuses[int(chance.random() * len(statuses))],
]
SETS = st.lists(st.integers(0, BACKENDS - 1), min_size=1, max_size=BACKENDS, unique=True)
EXCLUDED = st.sampled_from([[], [], [], [0], [1, 2]])
RING = balance.Ring()
OWN = st.sampled_from(
    [
        *[None] * 4,
        balance.consistent("key", RING),
        balance.consistent("key", RING, spill=None),
        balance.prefer_zone("t", balance.least_leased),
    ]
)


@implementer(ISource)
class Told:
    """A source that a test controls."""

    listener: Callable[[Sequence[Backend]], object] | None = None

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends

    def start(self, listener: Callable[[Sequence[Backend]], object]) -> None:
        self.listener = listener
        listener(self._backends)

    def stop(self) -> None:
        self.listener = None


class GroupMachine(Machine):
    """Uses two groups whose backends change, and lists without a group."""

    count = BACKENDS

    def prepare(self) -> None:
        chance = self.ledger.chance
        if self.ledger.observed and chance.random() < 0.5:
            self.ledger.forget_backends()
        members = chance.sample(range(BACKENDS), chance.randint(1, BACKENDS))
        first = [0, 1, 2] if chance.random() < 0.7 else [0]
        self.made: list[Any] = []
        self.sources: list[Told] = []
        self.groups: list[Group[Any]] = []
        for each in (first, members):
            self.open(each)

    def open(self, members: list[int]) -> None:
        chance, source = self.ledger.chance, Told(self.some(members))
        balancer = chance.choice(BALANCERS)(self.ledger.clock, chance)
        self.groups.append(self.ledger.pool.group(source, balancer))
        self.sources.append(source)
        self.made.append(balancer)

    def some(self, places: list[int]) -> list[Backend]:
        return [self.ledger.backends[each] for each in places]

    @rule(
        which=st.sampled_from([0, 0, 1]),
        ident=WHICH,
        exclude=EXCLUDED,
        timeout=TIMEOUTS,
        owner=WHICH,
        then=THEN,
        times=st.sampled_from([1, 1, 3]),
        balancer=OWN,
        fresh=FRESH,
    )
    def ask_group(
        self,
        which: int,
        ident: int,
        exclude: list[int],
        timeout: float | None,
        owner: int,
        then: str,
        times: int,
        balancer: Any,
        fresh: bool,
    ) -> None:
        for _ in range(times):
            connect = partial(self.groups[which].connect, balancer=balancer)
            whose, without = self.owner(owner), self.some(exclude)
            self.ledger.ask_any(self.ident(ident), connect, without, timeout, whose, then, fresh)

    @rule(
        members=SETS,
        which=st.sampled_from([0, 1]),
        ident=WHICH,
        exclude=EXCLUDED,
        timeout=TIMEOUTS,
        then=THEN,
        fresh=FRESH,
    )
    def select(
        self,
        members: list[int],
        which: int,
        ident: int,
        exclude: list[int],
        timeout: float | None,
        then: str,
        fresh: bool,
    ) -> None:
        def connect(ident: Any, **how: Any) -> Any:
            return self.ledger.pool.select(ident, self.some(members), self.made[which], **how)

        without = self.some(exclude)
        self.ledger.ask_any(self.ident(ident), connect, without, timeout, None, then, fresh)

    @rule(which=st.sampled_from([0, 0, 1]), ident=WARMED, count=COUNTS, timeout=TIMEOUTS)
    def warm_group(self, which: int, ident: int | None, count: int, timeout: float | None) -> None:
        told = self.groups[which].warm(count, timeout, ident=self.warmed(ident))
        self.ledger.wishes.append(Wish(told, lambda: None))

    @precondition(lambda self: self.age % 3 == 2)
    @rule(which=st.sampled_from([0, 1]), members=SETS)
    def tell(self, which: int, members: list[int]) -> None:
        listener = self.sources[which].listener
        if listener is not None:
            listener(self.some(members))

    def do_otherwise(self, which: int) -> None:
        some = self.ledger.chance.sample(range(BACKENDS), which % BACKENDS + 1)
        if which % 2:
            self.judge(some[0], "eject" if which % 4 == 1 else "admit")
        else:
            self.tell(which // 2 % 2, some)

    @rule(side=st.integers(0, BACKENDS - 1), how=st.sampled_from(["eject", "admit", "admit"]))
    def judge(self, side: int, how: str) -> None:
        getattr(self.ledger.pool, how)(self.ledger.backends[side])

    @precondition(lambda self: self.age % 16 == 15)
    @rule()
    def close_group(self) -> None:
        self.groups[1].close()

    @precondition(lambda self: self.age % 8 == 7)
    @rule(members=SETS)
    def open_another(self, members: list[int]) -> None:
        """Make one more group, as a program does that makes one for each job."""
        old = self.groups[1]
        with suppress(Closed):
            self.open(members)
            for each in (self.groups, self.sources, self.made):
                del each[1]
        old.close()

    @rule(side=st.integers(0, BACKENDS - 1), usable=st.booleans())
    def change_use(self, side: int, usable: bool) -> None:
        """Change whether a manager can be made for a backend."""
        change = self.ledger.unusable.discard if usable else self.ledger.unusable.add
        change(self.ledger.backends[side])

    @invariant()
    def groups_hold(self) -> None:
        check_groups(self.ledger, self.groups if hasattr(self, "groups") else [])

    def teardown(self) -> None:
        if hasattr(self, "groups"):
            for each in self.ledger.backends:
                self.ledger.pool.admit(each)
        super().teardown()
        if hasattr(self, "groups") and sys.exc_info()[0] is None:
            check_nothing_is_left(self.ledger)


class SharedGroupMachine(GroupMachine):
    slots = SharedMachine.slots


def _machine(base: type[Machine], idents: str) -> type[Machine]:
    who = "aaab" if idents == "reject" else "aabc"
    return type(f"{idents.title()}{base.__name__}", (base,), {"idents": idents, "who": who})


MACHINES = PLAIN_MACHINES + [
    _machine(base, idents)
    for base in (GroupMachine, SharedGroupMachine)
    for idents in ("reject", "replace", "separate")
]
