"""Rule 1 by chance: whatever happens in whatever order, no connection and no slot is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater

from kolus import Backend, ConnectionManager, Lease, Policy
from kolus.backend import State
from kolus.backoff import Backoff
from kolus.connection_state import ConnectionState
from kolus.testing import FakeBackend

LIMIT = 3
SECONDS = st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0, 20.0, 700.0])


class Manager(RuleBasedStateMachine):
    """One manager under random requests, cancels, settlings, losses, refusals and time."""

    policy = Policy(
        limit=LIMIT,
        max_waiters=5,
        acquire_timeout=2.0,
        connect_timeout=2.0,
        idle_timeout=30.0,
        lifetime=600.0,
        manager_idle_timeout=None,
        backoff=Backoff(first=0.5, most=4.0),
        prepare=lambda protocol: deferLater(protocol.clock, 0.1),
        reset=lambda protocol: deferLater(protocol.clock, 0.1),
    )

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.manager = ConnectionManager(
            self.clock, self.make_protocol, Backend(self.fake), "us", self.policy
        )
        self.asked: list[Deferred[Any]] = []
        self.fired: dict[Deferred[Any], int] = {}
        self.leases: list[Lease[Any]] = []

    def make_protocol(self) -> Any:
        protocol: Any = Protocol()
        protocol.clock = self.clock
        return protocol

    @rule(timeout=st.none() | SECONDS)
    def ask(self, timeout: float | None) -> None:
        asked = self.manager.connect("us", timeout)
        self.fired[asked] = 0

        def served(lease: Lease[Any]) -> None:
            self.fired[asked] += 1
            self.leases.append(lease)

        def failed(_: object) -> None:
            self.fired[asked] += 1

        asked.addCallbacks(served, failed)
        self.asked.append(asked)

    @rule()
    def try_to_lease(self) -> None:
        lease = self.manager.try_connect("us")
        if lease is not None:
            self.leases.append(lease)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.asked)).cancel()

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), how=st.sampled_from(["release", "finished", "forget", "abort"]))
    def settle(self, data: st.DataObject, how: str) -> None:
        place = data.draw(st.integers(0, len(self.leases) - 1))
        lease = self.leases.pop(place)
        if how == "abort":
            lease.protocol.transport.abortConnection()
            lease.release()
        elif how != "forget":
            getattr(lease, how)()

    @precondition(lambda self: self.fake.connections)
    @rule(data=st.data(), how=st.sampled_from(["close", "reset", "half_close", "speak"]))
    def disturb(self, data: st.DataObject, how: str) -> None:
        connection = data.draw(st.sampled_from(self.fake.connections))
        if how == "speak":
            connection.speak(b"out of turn")
        else:
            getattr(connection, how)()

    @rule(how=st.sampled_from(["accept", "refuse"]), after=SECONDS)
    def script(self, how: str, after: float) -> None:
        getattr(self.fake, how)(after=after)

    @rule()
    def never_answer(self) -> None:
        self.fake.never_answer()

    @rule()
    def pause(self) -> None:
        self.manager.pause()

    @rule()
    def resume(self) -> None:
        self.manager.resume()

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def everything_is_accounted_for(self) -> None:
        roster, status = self.manager.roster, self.manager.status()
        assert status.idle is not None
        connected = [each for each in roster.all if each.transport is not None]
        opened = len(roster.all) - status.connecting
        assert opened == status.idle + status.leased + len(roster.closing)
        assert opened + status.connecting <= LIMIT
        assert len(self.fake.connections) <= len(connected) <= LIMIT
        assert status.leased >= 0

    @invariant()
    def nobody_waits_while_something_is_idle(self) -> None:
        status = self.manager.status()
        paused = status.state is State.PAUSED
        unserved = status.waiting - len(self.manager.roster.checking)
        assert not (unserved > 0 and status.idle) or paused

    @invariant()
    def every_connection_is_where_its_state_says(self) -> None:
        roster = self.manager.roster
        for connection in roster.all:
            state = connection.state
            assert (state is ConnectionState.CONNECTING) == (connection in roster.connecting)
            assert (state is ConnectionState.IDLE) == (connection in roster.idle)
            assert (state is ConnectionState.CLOSING) == (connection in roster.closing)

    @invariant()
    def every_deferred_fires_at_most_once(self) -> None:
        assert all(times <= 1 for times in self.fired.values())

    def teardown(self) -> None:
        for lease in self.leases:
            lease.release()
        self.leases.clear()
        self.clock.pump([0, 0, 0])
        self.manager.close(0)
        self.clock.pump([0, 0, 10, 0])
        assert all(times == 1 for times in self.fired.values()), "a request was never answered"
        assert self.manager.when_closed().called
        assert not self.fake.connections
        assert not self.manager.roster.all
        counters = self.manager.counters
        settled = counters.releases + counters.finishes + counters.forgotten
        assert counters.leases == settled
        assert counters.connects == counters.closes


class CheckingManager(Manager):
    """The same with a check, the oldest connection first, and some kept ready."""

    policy = replace(
        Manager.policy,
        reuse="fifo",
        min_idle=1,
        check=lambda protocol: deferLater(protocol.clock, 0.1),
        check_after=1.0,
    )


class ErlangManager(Manager):
    """The original's manners: no queue, no back-off."""

    policy = Policy.erlang(limit=LIMIT, manager_idle_timeout=None)


for _machine in (Manager, CheckingManager, ErlangManager):
    _machine.TestCase.settings = settings(
        max_examples=100, stateful_step_count=60, deadline=None, derandomize=True
    )
TestManager = Manager.TestCase
TestCheckingManager = CheckingManager.TestCase
TestErlangManager = ErlangManager.TestCase
