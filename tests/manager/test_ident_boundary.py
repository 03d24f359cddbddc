"""Rule 22 under attack: one ident's bytes never get into another ident's connection."""

from __future__ import annotations

import gc
import random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kolus import Backend, KolusError, Lease, Policy, Pool, WrongIdent
from kolus.testing import FakeBackend, FakeConnection, NotFired, result_of
from tests.rigs.sharing import Hears

POLICIES = ["reject", "replace", "separate"]
IDENTS = "abcd"


def writers(connection: FakeConnection) -> set[str]:
    return set(connection.received.decode())


class Attack:
    """Callers of several idents that do anything in any order; each byte is its writer's name.

    What they write, the backend echoes. A caller writes by whatever it was given for its ident,
    also when it has settled that long ago.
    """

    def __init__(self, seed: int, idents: Any, slots: int | None) -> None:
        self.clock = Clock()
        self.chance = random.Random(seed)
        self.fake = FakeBackend(self.clock, respond=lambda data: data)
        self.backend = Backend(self.fake)
        self.pool: Pool[Any] = Pool(
            self.clock,
            self._build,
            policy=Policy(
                limit=3,
                slots=slots,
                idents=idents,
                acquire_timeout=3,
                idle_timeout=4,
                idle_jitter=0,
                manager_idle_timeout=2,
                min_idle=seed % 2,
                check=(lambda protocol: None) if seed % 3 == 0 else None,
                check_after=1,
            ),
            rng=self.chance,
        )
        self.protocols: list[Hears] = []
        self.leases: list[tuple[str, Lease[Any]]] = []
        self.kept: list[tuple[str, Any]] = []
        self.asked: list[Deferred[Any]] = []
        self.managers: list[Any] = []
        self.served = 0

    def _build(self) -> Hears:
        self.protocols.append(Hears())
        return self.protocols[-1]

    def _where(self) -> Any:
        """The backend, or any manager that there ever was."""
        self.managers += [each.manager for each in self.pool.status() if each.manager]
        return self.chance.choice([self.backend, self.backend, *self.managers[-5:]])

    def ask(self) -> None:
        ident = self.chance.choice(IDENTS)
        asked = self.pool.connect(ident, self._where(), timeout=self.chance.choice([None, 0.5]))
        asked.addCallback(self._got, ident)
        asked.addErrback(lambda failure: failure.trap(KolusError, Exception))
        self.asked.append(asked)

    def try_connect(self) -> None:
        ident = self.chance.choice(IDENTS)
        try:
            lease = self.pool.try_connect(ident, self._where())
        except KolusError:
            return
        if lease is not None:
            self._got(lease, ident)

    def _got(self, lease: Lease[Any], ident: str) -> None:
        assert lease.ident == ident
        self.served += 1
        self.leases.append((ident, lease))
        self.kept.append((ident, lease.protocol))
        lease.protocol.transport.write(ident.encode())

    def write(self) -> None:
        """By a protocol of one's own, leased or not; now, or when the lease is over perhaps."""
        if self.kept:
            ident, protocol = self.chance.choice(self.kept[-20:])
            later = self.chance.choice([0, 0, 0.5, 2])
            data = ident.encode()
            self.clock.callLater(later, lambda: protocol.transport.write(data))

    def settle(self) -> None:
        if self.leases:
            place = self.chance.randrange(len(self.leases))
            ident, lease = self.leases.pop(place)
            how = self.chance.choice(["release", "release", "finished", "forget", "late"])
            if how == "late":
                lease.protocol.transport.write(ident.encode())
                lease.release()
            elif how != "forget":
                getattr(lease, how)()

    def cancel(self) -> None:
        if self.asked:
            self.chance.choice(self.asked).cancel()

    def disturb(self) -> None:
        if self.fake.connections:
            connection = self.chance.choice(self.fake.connections)
            getattr(connection, self.chance.choice(["close", "reset", "half_close"]))()

    def script(self) -> None:
        self.fake.accept(after=self.chance.choice([0.0, 0.2, 1.0]))

    def operate(self) -> None:
        pool = self.pool
        self.chance.choice(
            [
                lambda: pool.resize(self.chance.randint(1, 4)),
                lambda: pool.invalidate(),
                self.pause,
                lambda: pool.drain(self.backend) if self.chance.random() < 0.3 else None,
            ]
        )()

    def pause(self) -> None:
        self.pool.pause(self.backend)
        self.clock.callLater(0.5, self.pool.resume, self.backend)

    def wait(self) -> None:
        self.clock.advance(self.chance.choice([0, 0, 0, 0.1, 0.5, 5]))

    def run(self, steps: int) -> None:
        often = [self.ask, self.settle, self.settle, self.write, self.wait]
        seldom = [self.try_connect, self.cancel, self.disturb, self.script, self.operate]
        for _ in range(steps):
            self.chance.choice(often * 4 + seldom)()
            self.look()

    def look(self) -> None:
        for connection in self.fake.accepted:
            assert len(writers(connection)) <= 1, connection.received
        record = self.pool._managers.records.find(self.backend.key)
        holding = sum(len(each.connections.all) for each in record.members) if record else 0
        assert len(self.fake.connections) <= holding <= 4
        for protocol in self.protocols:
            assert len(set(protocol.heard)) <= 1, protocol.heard

    def end(self) -> None:
        closed = self.pool.close(0)
        for _, lease in self.leases:
            lease.release()
        self.leases.clear()
        gc.collect()
        self.clock.pump([0, 0, 10, 60, 0])
        result_of(closed)
        self.look()
        assert not self.fake.connections
        assert not self.clock.getDelayedCalls()
        assert all(each.called for each in self.asked)
        counters = self.pool.counters()
        assert counters.leases == counters.releases + counters.finishes + counters.forgotten
        assert counters.connects == counters.closes
        record = self.pool._managers.records.find(self.backend.key)
        assert record is None or not record.members


@pytest.mark.parametrize("slots", [None, 3])
@pytest.mark.parametrize("idents", POLICIES)
def test_no_interleaving_brings_a_byte_to_another_idents_connection(
    idents: str, slots: int | None
) -> None:
    served = 0
    for seed in range(25):
        attack = Attack(seed, idents, slots)
        attack.run(150)
        attack.end()
        served += attack.served
    assert served > 100


def pool_of(idents: Any, slots: int | None, clock: Clock) -> tuple[Pool[Any], FakeBackend, Backend]:
    fake = FakeBackend(clock, respond=lambda data: data)
    pool: Pool[Any] = Pool(clock, Hears, policy=Policy(limit=1, slots=slots, idents=idents))
    return pool, fake, Backend(fake)


@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize("idents", POLICIES)
def test_a_manager_serves_no_other_ident_whoever_hands_it_over(
    idents: str, slots: int | None
) -> None:
    clock = Clock()
    pool, fake, backend = pool_of(idents, slots, clock)
    result_of(pool.connect("a", backend)).release()
    manager = pool.manager(backend)
    assert manager is not None
    with pytest.raises(WrongIdent):
        result_of(pool.connect("b", manager))
    with pytest.raises(WrongIdent):
        pool.try_connect("b", manager)
    with pytest.raises(WrongIdent):
        result_of(manager.connect("b"))
    assert fake.attempts == 1


@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize("idents", POLICIES)
def test_try_connect_never_leases_what_is_another_idents(idents: str, slots: int | None) -> None:
    pool, _, backend = pool_of(idents, slots, Clock())
    held = result_of(pool.connect("a", backend))
    for _ in range(2):
        if idents == "reject":
            with pytest.raises(WrongIdent):
                pool.try_connect("b", backend)
        else:
            assert pool.try_connect("b", backend) is None
        if held.held:
            held.release()


@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize("idents", ["replace", "separate"])
def test_a_lease_that_another_ident_settles_serves_its_own_ident_alone(
    idents: str, slots: int | None
) -> None:
    clock = Clock()
    pool, fake, backend = pool_of(idents, slots, clock)
    passed = result_of(pool.connect("a", backend))
    waiting = pool.connect("b", backend)

    def settled_by_b(lease: Lease[Any]) -> None:
        pool.return_(lease)

    settled_by_b(passed)
    with pytest.raises(NotFired):
        result_of(waiting)
    clock.pump([0, 0, 0])
    lease = result_of(waiting)
    assert fake.accepted[1].transport is lease.protocol.transport
    assert not fake.accepted[0].open


@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize("idents", ["replace", "separate"])
def test_a_write_after_release_stays_on_its_own_connection(idents: str, slots: int | None) -> None:
    clock = Clock()
    pool, fake, backend = pool_of(idents, slots, clock)
    lease = result_of(pool.connect("a", backend))
    stale = lease.protocol
    stale.transport.write(b"a")
    lease.release()
    stale.transport.write(b"a")
    asked = pool.connect("b", backend)
    stale.transport.write(b"a")
    clock.pump([0, 0, 0])
    lease = result_of(asked)
    stale.transport.write(b"a")
    lease.protocol.transport.write(b"b")
    clock.pump([0, 0, 0])
    assert writers(fake.accepted[0]) == {"a"}
    assert fake.accepted[1].received == b"b"
    assert lease.protocol.heard == b"b"


@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize("idents", ["replace", "separate"])
def test_an_answer_that_comes_too_late_reaches_no_other_ident(
    idents: str, slots: int | None
) -> None:
    clock = Clock()
    pool, fake, backend = pool_of(idents, slots, clock)
    old = result_of(pool.connect("a", backend))
    old_protocol = old.protocol
    asked = pool.connect("b", backend)
    old.release()
    fake.accepted[0].speak(b"late")
    clock.pump([0, 0, 0])
    lease = result_of(asked)
    fake.accepted[0].speak(b"later")
    assert lease.protocol is not old_protocol
    assert lease.protocol.heard == b""
