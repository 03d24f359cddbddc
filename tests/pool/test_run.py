"""C{pool.run} and C{group.run}: lease, call, settle, and repeat what was lost without an answer."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from zope.interface import implementer

from kolus import (
    Backend,
    Closed,
    ConnectFailed,
    LeaseError,
    LeaseTimeout,
    Policy,
    Pool,
)
from kolus.balance import fill_first
from kolus.testing import FakeBackend, NotFired, result_of


class Asks(Protocol):
    """Asks one question at a time; a loss fails the one under way."""

    asked: Deferred[bytes] | None = None

    def ask(self, what: bytes = b"?") -> Deferred[bytes]:
        assert self.transport is not None
        self.asked = Deferred()
        self.transport.write(what)
        return self.asked

    def dataReceived(self, data: bytes) -> None:
        if self.asked is not None and data.endswith(b"."):
            asked, self.asked = self.asked, None
            asked.callback(data)

    def connectionLost(self, reason: Any = None) -> None:
        if self.asked is not None:
            asked, self.asked = self.asked, None
            asked.errback(reason)


def ask(protocol: Asks) -> Deferred[bytes]:
    return protocol.ask()


class Running:
    """A pool on a clock with three fake backends."""

    def __init__(self, protocol: Any = Asks, **policy: Any) -> None:
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(3)]
        self.backends = [
            Backend(fake, name=name) for fake, name in zip(self.fakes, "abc", strict=True)
        ]
        settings = {"limit": 2, "balancer": fill_first} | policy
        self.pool: Pool[Any] = Pool(self.clock, protocol, policy=Policy(**settings))

    @property
    def fake(self) -> FakeBackend:
        return self.fakes[0]

    def run(self, function: Any = ask, **how: Any) -> Deferred[Any]:
        return self.pool.run("us", self.backends[0], function, **how)

    def use(self, *which: int, count: int = 1) -> None:
        """Leave so many idle connections, which were leased before, at these backends."""
        for each in which or (0,):
            asked = [self.pool.connect("us", self.backends[each]) for _ in range(count)]
            for lease in [result_of(one) for one in asked]:
                lease.release()

    def turn(self) -> None:
        self.clock.pump([0, 0, 0])

    def status(self) -> tuple[int | None, int]:
        """What is idle and leased at the first backend."""
        status = self.pool.status(self.backends)[0]
        return status.idle, status.leased


def last(fake: FakeBackend) -> Any:
    return fake.connections[-1]


# Settled by the outcome


def test_run_fires_with_what_the_function_returns_and_releases() -> None:
    rig = Running()
    assert result_of(rig.run(lambda protocol: type(protocol))) is Asks
    assert rig.status() == (1, 0)


def test_a_deferred_is_waited_for() -> None:
    rig = Running()
    running = rig.run()
    assert rig.status() == (0, 1)
    last(rig.fake).speak(b"yes.")
    assert result_of(running) == b"yes."
    assert rig.status() == (1, 0)


def test_a_coroutine_is_waited_for() -> None:
    async def twice(protocol: Asks) -> bytes:
        return await protocol.ask() + await protocol.ask()

    rig = Running()
    running = rig.run(twice)
    last(rig.fake).speak(b"one.")
    last(rig.fake).speak(b"two.")
    assert result_of(running) == b"one.two."
    assert rig.status() == (1, 0)


def test_what_cannot_be_awaited_is_an_error() -> None:
    rig = Running()
    with pytest.raises(TypeError, match="cannot be awaited"):
        result_of(rig.run(lambda protocol: (each for each in "abc")))
    assert rig.status() == (0, 0)


@pytest.mark.parametrize("late", [False, True])
def test_an_exception_finishes_the_connection(late: bool) -> None:
    def fail(protocol: Asks) -> Any:
        if not late:
            raise KeyError("mine")
        return protocol.ask().addCallback(lambda _: {}["mine"])

    rig = Running()
    running = rig.run(fail)
    if late:
        last(rig.fake).speak(b"yes.")
    with pytest.raises(KeyError):
        result_of(running)
    rig.turn()
    assert rig.status() == (0, 0)
    assert not rig.fake.connections


@pytest.mark.parametrize("clean", [False, True])
def test_the_policy_s_clean_keeps_what_is_clean_after_an_exception(clean: bool) -> None:
    def fail(protocol: Asks) -> None:
        raise KeyError("mine")

    rig = Running(clean=lambda protocol: clean)
    with pytest.raises(KeyError):
        result_of(rig.run(fail))
    rig.turn()
    assert rig.status() == (int(clean), 0)


def test_the_errors_of_the_request_are_its_errors() -> None:
    rig = Running(limit=1)
    rig.fake.refuse()
    with pytest.raises(ConnectFailed):
        result_of(rig.run())
    rig.clock.advance(5)
    held = result_of(rig.pool.connect("us", rig.backends[0]))
    running = rig.run(timeout=1.0)
    rig.clock.advance(1.0)
    with pytest.raises(LeaseTimeout):
        result_of(running)
    held.release()
    rig.pool.close()
    with pytest.raises(Closed):
        result_of(rig.run())


# Where


def test_a_group_a_list_a_pair_and_a_manager_are_places_to_run_at() -> None:
    rig = Running()
    manager = result_of(rig.pool.connect("us", rig.backends[0])).manager
    for where in (rig.pool.group(rig.backends), rig.backends, tuple(rig.backends[:2]), manager):
        running = rig.pool.run("us", where, lambda protocol: 5)
        assert result_of(running) == 5
    with pytest.raises(ValueError, match="port must be"):
        rig.pool.run("us", ("host", 0), ask)


def test_a_group_takes_exclude_and_a_balancer() -> None:
    rig = Running()
    group = rig.pool.group(rig.backends)
    result_of(group.run("us", lambda protocol: 5, exclude=rig.backends[:1]))
    result_of(group.run("us", lambda protocol: 5, balancer=lambda statuses: statuses[2]))
    assert [each.attempts for each in rig.fakes] == [0, 1, 1]


# Repeated


@pytest.mark.parametrize("how", ["close", "reset"])
def test_what_was_lost_on_a_reused_connection_before_any_answer_is_repeated_on_a_fresh_one(
    how: str,
) -> None:
    rig = Running()
    rig.use(count=2)  # both may be stale
    running = rig.run(idempotent=True)
    getattr(last(rig.fake), how)()
    rig.turn()
    with pytest.raises(NotFired):
        result_of(running)
    assert rig.fake.attempts == 3
    rig.fake.accepted[-1].speak(b"yes.")
    assert result_of(running) == b"yes."
    assert rig.fake.accepted[-1].received == b"?"


def test_at_the_limit_an_idle_connection_makes_way_for_the_repetition() -> None:
    rig = Running(limit=2)
    rig.use(count=2)
    running = rig.run(idempotent=True)
    last(rig.fake).reset()
    rig.turn()
    rig.fake.accepted[-1].speak(b"yes.")
    assert result_of(running) == b"yes."


def test_a_lost_request_is_repeated_under_a_limit_of_one() -> None:
    rig = Running(limit=1)
    rig.use()
    running = rig.run(idempotent=True)
    last(rig.fake).reset()
    rig.turn()
    last(rig.fake).speak(b"yes.")
    assert result_of(running) == b"yes."


def test_nothing_is_repeated_unless_it_is_said_to_be_safe() -> None:
    rig = Running()
    rig.use()
    running = rig.run()
    last(rig.fake).reset()
    with pytest.raises(ConnectionLost):
        result_of(running)
    assert rig.fake.attempts == 1


def test_what_was_lost_on_a_new_connection_is_not_repeated() -> None:
    rig = Running()
    running = rig.run(idempotent=True)
    last(rig.fake).reset()
    with pytest.raises(ConnectionLost):
        result_of(running)
    assert rig.fake.attempts == 1


@pytest.mark.parametrize("answer", [b"y", b"no."])
def test_what_had_part_of_an_answer_is_not_repeated(answer: bytes) -> None:
    async def twice(protocol: Asks) -> bytes:
        return await protocol.ask() + await protocol.ask()

    rig = Running()
    rig.use()
    running = rig.run(twice, idempotent=True)
    last(rig.fake).speak(answer)
    last(rig.fake).reset()
    with pytest.raises(ConnectionLost):
        result_of(running)
    assert rig.fake.attempts == 1


def test_an_answer_to_an_earlier_lease_does_not_count() -> None:
    rig = Running()
    running = rig.run()
    last(rig.fake).speak(b"yes.")
    result_of(running)
    running = rig.run(idempotent=True)
    last(rig.fake).reset()
    rig.turn()
    last(rig.fake).speak(b"yes.")
    assert result_of(running) == b"yes."


def test_what_fails_while_the_connection_is_open_is_not_repeated() -> None:
    calls: list[Any] = []

    def fail(protocol: Asks) -> None:
        calls.append(protocol)
        raise KeyError("mine")

    rig = Running()
    rig.use()
    with pytest.raises(KeyError):
        result_of(rig.run(fail, idempotent=True))
    assert len(calls) == 1


def test_a_request_is_repeated_once_and_then_fails_with_both_errors() -> None:
    rig = Running()
    rig.use()
    running = rig.run(idempotent=True)
    last(rig.fake).reset()
    rig.turn()
    last(rig.fake).close()
    with pytest.raises(ConnectionDone) as caught:
        result_of(running)
    assert isinstance(caught.value.__context__, ConnectionLost)
    assert rig.fake.attempts == 2


def test_a_repetition_that_gets_no_lease_fails_with_both_errors() -> None:
    rig = Running()
    rig.use()
    rig.fake.refuse(always=True)
    running = rig.run(idempotent=True)
    last(rig.fake).reset()
    rig.clock.pump([0.1] * 40)
    with pytest.raises(ConnectFailed) as caught:
        result_of(running)
    assert isinstance(caught.value.__context__, ConnectionLost)


def test_retries_0_never_repeats_and_only_the_last_repetition_is_fresh() -> None:
    rig = Running(limit=3)
    rig.use(count=3)
    running = rig.run(idempotent=True, retries=0)
    last(rig.fake).reset()
    with pytest.raises(ConnectionLost):
        result_of(running)
    running = rig.run(idempotent=True, retries=2)
    for left in (1, 0):
        [asked] = [each for each in rig.fake.connections if each.received == b"?"]
        asked.reset()
        rig.turn()
        assert rig.fake.attempts == (3 if left else 4)
    last(rig.fake).speak(b"yes.")
    assert result_of(running) == b"yes."


@pytest.mark.parametrize("is_group", [False, True])
def test_several_backends_repeat_it_elsewhere(is_group: bool) -> None:
    rig = Running()
    rig.use(0, 1)
    where = rig.pool.group(rig.backends) if is_group else rig.backends
    running = rig.pool.run("us", where, ask, idempotent=True)
    last(rig.fake).reset()
    rig.turn()
    assert rig.fake.attempts == 1
    assert rig.fakes[1].attempts == 2  # not its stale connection either
    rig.fakes[1].accepted[-1].speak(b"yes.")
    assert result_of(running) == b"yes."


def test_if_no_other_can_serve_it_it_is_repeated_where_it_was() -> None:
    rig = Running()
    rig.use()
    for each in rig.fakes[1:]:
        each.refuse(always=True)
    running = rig.pool.run("us", rig.backends, ask, idempotent=True)
    last(rig.fake).reset()
    rig.clock.pump([0.1] * 10)
    last(rig.fake).speak(b"yes.")
    assert result_of(running) == b"yes."


def test_a_group_of_one_repeats_it_on_a_fresh_connection() -> None:
    rig = Running()
    rig.use()
    group = rig.pool.group(rig.backends[:1])
    running = group.run("us", ask, idempotent=True)
    last(rig.fake).reset()
    rig.turn()
    last(rig.fake).speak(b"yes.")
    assert result_of(running) == b"yes."


def test_an_end_that_a_half_close_protocol_hears_is_a_loss_too() -> None:
    @implementer(IHalfCloseableProtocol)
    class Half(Asks):
        def readConnectionLost(self) -> None:
            self.connectionLost(ConnectionDone("the stream has ended"))

        def writeConnectionLost(self) -> None:
            pass

    rig = Running(Half)
    rig.use()
    running = rig.run(idempotent=True)
    last(rig.fake).half_close()
    rig.turn()
    last(rig.fake).speak(b"yes.")
    assert result_of(running) == b"yes."


def test_a_lost_request_is_repeated_in_debug_mode() -> None:
    rig = Running(debug=True)
    rig.use()
    running = rig.run(idempotent=True)
    last(rig.fake).reset()
    rig.turn()
    last(rig.fake).speak(b"yes.")
    assert result_of(running) == b"yes."


# Shared connections


class Many(Asks):
    """Answers its questions in turn."""

    def __init__(self) -> None:
        self.questions: list[Deferred[bytes]] = []

    def ask(self, what: bytes = b"?") -> Deferred[bytes]:
        assert self.transport is not None
        self.questions.append(Deferred())
        self.transport.write(what)
        return self.questions[-1]

    def dataReceived(self, data: bytes) -> None:
        for each in data.split(b".")[:-1]:
            self.questions.pop(0).callback(each)

    def connectionLost(self, reason: Any = None) -> None:
        lost, self.questions = self.questions, []
        for each in lost:
            each.errback(reason)


def test_all_leases_of_a_lost_shared_connection_are_repeated_on_one_fresh_connection() -> None:
    rig = Running(Many, slots=4, limit=1)
    rig.use()
    rig.fake.accept(after=0.1)
    running = [rig.run(idempotent=True) for _ in range(4)]
    last(rig.fake).reset()
    rig.clock.pump([0, 0.1, 0])
    assert rig.fake.attempts == 2
    last(rig.fake).speak(b"1.2.3.4.")
    assert [result_of(each) for each in running] == [b"1", b"2", b"3", b"4"]


def test_of_a_shared_connection_an_answer_to_any_of_its_leases_counts() -> None:
    rig = Running(Many, slots=4, limit=1)
    rig.use()
    first, second = (rig.run(idempotent=True) for _ in range(2))
    last(rig.fake).speak(b"1.")
    third = rig.run(idempotent=True)  # after that nothing comes
    last(rig.fake).reset()
    assert result_of(first) == b"1"
    with pytest.raises(ConnectionLost):
        result_of(second)
    rig.turn()
    last(rig.fake).speak(b"3.")
    assert result_of(third) == b"3"


def test_listening_leaves_nothing_behind() -> None:
    rig = Running(Many, slots=2, limit=1)
    for _ in range(50):  # never all ended, and never an answer
        rig.run(lambda protocol: protocol.transport.write(b"!"))
    held = result_of(rig.pool.connect("us", rig.backends[0]))
    assert held.leasable.connection.hearings == {}
    assert held.leasable.connection.dataReceived == held.protocol.dataReceived
    held.release()


# Time


def test_the_time_out_covers_the_wait_and_the_function_of_all_attempts() -> None:
    rig = Running(limit=1)
    held = result_of(rig.pool.connect("us", rig.backends[0]))
    running = rig.run(idempotent=True, timeout=3.0)
    rig.clock.advance(1.0)
    held.release()
    rig.clock.advance(1.0)
    rig.fake.accept(after=0.5)
    last(rig.fake).reset()
    rig.clock.pump([0, 0.5, 0])
    assert len(rig.fake.connections) == 1
    rig.clock.advance(0.5)
    with pytest.raises(TimeoutError, match=r"ask took longer than 0\.5 s"):
        result_of(running)
    rig.turn()
    assert not rig.fake.connections


def test_at_the_time_out_a_function_is_cancelled_and_not_repeated() -> None:
    cancelled: list[bool] = []
    rig = Running()
    rig.use()
    waits: Deferred[None] = Deferred(lambda _: cancelled.append(True))
    running = rig.run(lambda protocol: waits, idempotent=True, timeout=2.0)
    last(rig.fake).reset()  # which this function does not hear
    rig.clock.advance(2.0)
    with pytest.raises(TimeoutError):
        result_of(running)
    assert cancelled == [True]
    assert rig.fake.attempts == 1


def test_without_a_time_out_the_function_may_take_its_time() -> None:
    rig = Running(acquire_timeout=1.0)
    running = rig.run()
    rig.clock.advance(100)
    last(rig.fake).speak(b"yes.")
    assert result_of(running) == b"yes."


def test_without_a_time_out_the_waits_have_the_policy_s_together() -> None:
    rig = Running(limit=1, acquire_timeout=4.0)
    held = result_of(rig.pool.connect("us", rig.backends[0]))
    running = rig.run(idempotent=True)
    rig.clock.advance(3.0)
    held.release()
    rig.clock.advance(50)
    rig.fake.never_answer(always=True)
    last(rig.fake).reset()
    rig.clock.pump([0, 0.9])
    with pytest.raises(NotFired):
        result_of(running)
    rig.clock.advance(0.1)
    with pytest.raises(LeaseTimeout):
        result_of(running)


# Cancelled


def test_cancelling_the_wait_leaves_the_queue() -> None:
    rig = Running(limit=1)
    held = result_of(rig.pool.connect("us", rig.backends[0]))
    running = rig.run()
    running.cancel()
    with pytest.raises(CancelledError):
        result_of(running)
    assert rig.pool.status(rig.backends)[0].waiting == 0
    held.release()


def test_cancelling_the_function_finishes_the_connection() -> None:
    rig = Running()
    running = rig.run()
    running.cancel()
    with pytest.raises(CancelledError):
        result_of(running)
    rig.turn()
    assert rig.status() == (0, 0)


@pytest.mark.parametrize("clean", [None, lambda protocol: True])
def test_a_function_that_ignores_its_cancellation_loses_its_connection_at_once(clean: Any) -> None:
    rig = Running(clean=clean)

    async def stubborn(protocol: Asks) -> bytes:
        try:
            return await protocol.ask()
        except CancelledError:
            return await protocol.ask()

    running = rig.run(stubborn)
    running.cancel()
    with pytest.raises(CancelledError):
        result_of(running)
    assert rig.status() == (0, 0)
    rig.turn()
    assert not rig.fake.connections


def test_a_cancelled_function_is_not_repeated() -> None:
    rig = Running()
    rig.use()
    running = rig.run(lambda protocol: Deferred(), idempotent=True)
    last(rig.fake).reset()
    running.cancel()
    with pytest.raises(CancelledError):
        result_of(running)
    assert rig.fake.attempts == 1


def test_cancelling_a_repetition_ends_it() -> None:
    rig = Running()
    rig.use()
    rig.fake.never_answer(always=True)
    running = rig.run(idempotent=True)
    last(rig.fake).reset()
    rig.turn()
    running.cancel()
    with pytest.raises(CancelledError):
        result_of(running)
    assert rig.pool.status(rig.backends)[0].waiting == 0


# Owners, draining, closing


def test_the_end_of_the_owner_ends_the_wait_and_the_lease() -> None:
    rig = Running(limit=1)
    owner: Deferred[None] = Deferred()
    first, second = rig.run(owner=owner), rig.run(owner=owner)
    with pytest.raises(LeaseError):
        result_of(second)  # its owner holds all there is
    owner.callback(None)
    rig.turn()
    with pytest.raises(ConnectionDone):
        result_of(first)
    with pytest.raises(LeaseError):
        result_of(rig.run(owner=owner))


def test_draining_lets_the_function_end() -> None:
    rig = Running()
    running = rig.run()
    drained = rig.pool.drain(rig.backends[0])
    last(rig.fake).speak(b"yes.")
    assert result_of(running) == b"yes."
    rig.turn()
    result_of(drained)


def test_after_closing_nothing_is_repeated() -> None:
    rig = Running()
    rig.use()
    running = rig.run(idempotent=True)
    closed = rig.pool.close()
    last(rig.fake).reset()
    with pytest.raises(Closed) as caught:
        result_of(running)
    assert isinstance(caught.value.__context__, ConnectionLost)
    result_of(closed)


def test_idents_are_kept_apart() -> None:
    rig = Running(idents="separate", limit=1)
    rig.use()
    running = rig.pool.run("them", rig.backends[0], ask, idempotent=True)
    rig.turn()
    last(rig.fake).speak(b"yes.")
    assert result_of(running) == b"yes."
    assert rig.fake.attempts == 2


# Bad arguments


def test_bad_arguments_are_refused_at_once() -> None:
    rig = Running()
    bad: list[tuple[type[Exception], dict[str, Any]]] = [
        (TypeError, {"function": None}),
        (ValueError, {"retries": -1}),
        (ValueError, {"retries": 1.5}),
        (ValueError, {"idempotent": 1}),
        (ValueError, {"timeout": -1}),
        (TypeError, {"owner": 5}),
    ]
    for error, how in bad:
        with pytest.raises(error):
            rig.run(**how)
    with pytest.raises(TypeError):
        rig.pool.run("us", 5, ask)  # type: ignore[arg-type]
    assert not any(each.attempts for each in rig.fakes)
