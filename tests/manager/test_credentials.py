"""Credentials per connect: C{prepare} gets a context, and a backend may make its endpoints."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, ConnectContext, ConnectFailed, Policy, Pool
from kolus.backoff import Backoff
from kolus.endpoints import Hosts
from kolus.status import State
from kolus.testing import FakeBackend, result_of
from tests.rigs.named_rig import ONE, TWO
from tests.rigs.named_rig import Rig as NamedRig
from tests.rigs.pools import Half, Managed


class Making:
    """A pool with one backend, whose endpoints are made by C{make}.

    @ivar made: the contexts that it was called with.
    """

    def __init__(self, make: Callable[..., Any] | None = None, **policy: Any) -> None:
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.made: list[ConnectContext] = []
        self.backend = Backend(make or self.make, name="made")
        settings = {"limit": 2, "backoff": None} | policy
        self.pool: Pool[Any] = Pool(self.clock, Protocol, policy=Policy(**settings), rng=Half())

    def make(self, context: ConnectContext) -> Any:
        self.made.append(context)
        return self.fake

    def ask(self, ident: str = "us") -> Deferred[Any]:
        return self.pool.connect(ident, self.backend)

    def error(self) -> ConnectFailed:
        with pytest.raises(ConnectFailed) as caught:
            result_of(self.ask())
        return caught.value


# prepare


def test_a_prepare_of_two_arguments_gets_the_context() -> None:
    told: list[Any] = []
    rig = Managed(prepare=lambda protocol, context: told.append((protocol, context)))
    lease = rig.lease()
    [(protocol, context)] = told
    assert protocol is lease.protocol
    assert context == ConnectContext("us", rig.manager.backend, 1, 0)


def test_the_context_counts_the_attempts_and_the_generations() -> None:
    told: list[ConnectContext] = []

    def prepare(protocol: Any, context: ConnectContext) -> None:
        told.append(context)
        if len(told) in (1, 2):
            raise PermissionError("wrong password")

    rig = Managed(prepare=prepare, backoff=None)
    for _ in range(2):
        with pytest.raises(ConnectFailed, match="wrong password"):
            rig.lease()
        rig.turn()
    rig.lease().release()
    rig.manager.invalidate()
    rig.turn()
    rig.lease().release()
    assert [each.attempt for each in told] == [1, 2, 3, 1]
    assert [each.generation for each in told] == [0, 0, 0, 1]


class Hooks:
    """Hooks of all shapes; each notes how many arguments it got."""

    def __init__(self) -> None:
        self.got: list[int] = []

    def one(self, protocol: Any) -> None:
        self.got.append(1)

    def two(self, protocol: Any, context: Any) -> None:
        self.got.append(2)

    def default(self, protocol: Any, database: int = 5) -> None:
        assert database == 5
        self.got.append(1)

    def stars(self, *args: Any, **kwargs: Any) -> None:
        self.got.append(len(args))

    def one_and_stars(self, protocol: Any, *args: Any) -> None:
        self.got.append(1 + len(args))

    def two_and_stars(self, protocol: Any, context: Any, *args: Any) -> None:
        self.got.append(2 + len(args))

    async def later(self, protocol: Any, context: Any) -> None:
        self.got.append(2)

    def three(self, extra: int, protocol: Any, context: Any) -> None:
        self.got.append(2)

    def keyword(self, protocol: Any, *, database: int) -> None:
        self.got.append(1)

    def __call__(self, protocol: Any, context: Any) -> None:
        self.got.append(2)


HOOKS = Hooks()


@pytest.mark.parametrize(
    ("hook", "count"),
    [
        (HOOKS.one, 1),
        (HOOKS.two, 2),
        (HOOKS.default, 1),
        (HOOKS.stars, 1),
        (HOOKS.one_and_stars, 1),
        (HOOKS.two_and_stars, 2),
        (HOOKS.later, 2),
        (partial(HOOKS.three, 7), 2),
        (partial(HOOKS.default, database=5), 1),
        (partial(HOOKS.keyword, database=7), 1),
        (HOOKS, 2),
    ],
)
def test_prepare_is_called_with_as_few_arguments_as_it_can_be(hook: Any, count: int) -> None:
    HOOKS.got.clear()
    rig = Managed(prepare=hook)
    rig.lease()
    assert HOOKS.got == [count]


@pytest.mark.parametrize("hook", [lambda: None, HOOKS.three, HOOKS.keyword])
def test_what_can_be_called_with_neither_is_refused_when_the_policy_is_made(hook: Any) -> None:
    with pytest.raises(TypeError, match="prepare must be callable with a protocol, or"):
        Policy(prepare=hook)


def test_what_does_not_tell_its_signature_is_called_with_the_protocol() -> None:
    assert Managed(prepare=vars).lease().held  # written in C


# An endpoint for each connect


def test_an_endpoint_is_made_for_each_connect() -> None:
    rig = Making()
    leases = [result_of(rig.ask()) for _ in range(2)]
    assert [(each.ident, each.backend, each.attempt) for each in rig.made] == [
        ("us", rig.backend, 1),
        ("us", rig.backend, 1),
    ]
    leases[0].release()
    assert result_of(rig.ask()).reused
    assert len(rig.made) == 2


def test_an_endpoint_may_be_made_without_a_context_or_later() -> None:
    fake = FakeBackend(Clock())
    later: Deferred[Any] = Deferred()

    async def coroutine(context: ConnectContext) -> Any:
        return await later

    for make in (lambda: fake, lambda *args: fake, lambda context=None: fake, partial(int, "1")):
        rig = Making(make)
        if isinstance(make, partial):
            assert "gave an object of type int" in str(rig.error())
        else:
            assert result_of(rig.ask()).held
    rig = Making(coroutine)
    asked = rig.ask()
    assert not asked.called
    later.callback(rig.fake)
    assert result_of(asked).held


def test_each_ident_may_have_its_own_endpoint() -> None:
    fakes = {each: FakeBackend(Clock()) for each in ("us", "them")}
    rig = Making(lambda context: fakes[context.ident], idents="separate")
    for ident in fakes:
        assert result_of(rig.ask(ident)).held
    assert [each.attempts for each in fakes.values()] == [1, 1]


def test_making_it_is_part_of_the_connect_and_of_its_time_out() -> None:
    cancelled: list[Any] = []
    rig = Making(lambda: Deferred(cancelled.append), connect_timeout=2.0, acquire_timeout=None)
    asked = rig.ask()
    assert rig.pool.status()[0].connecting == 1
    rig.clock.advance(2.0)
    with pytest.raises(ConnectFailed, match="connect took longer than 2 s"):
        result_of(asked)
    assert len(cancelled) == 1
    asked = rig.ask()
    rig.pool.close(0)
    assert len(cancelled) == 2
    asked.addErrback(lambda _: None)


def test_a_failed_attempt_is_seen_by_the_next() -> None:
    rig = Making()
    rig.fake.refuse()
    rig.error()
    result_of(rig.ask())
    assert [each.attempt for each in rig.made] == [1, 2]


def test_invalidate_has_new_endpoints_made_for_new_connections() -> None:
    rig = Making()
    held, idle = result_of(rig.ask()), result_of(rig.ask())
    idle.release()
    rig.pool.invalidate(rig.backend)
    rig.clock.advance(0)
    assert len(rig.fake.connections) == 1
    held.release()
    rig.clock.pump([0, 0])
    assert not rig.fake.connections
    result_of(rig.ask())
    assert [each.generation for each in rig.made] == [0, 0, 1]


def test_a_backend_that_has_no_manager_is_invalidated_too() -> None:
    rig = Making(manager_idle_timeout=0.0)
    result_of(rig.ask()).finished()
    rig.clock.pump([0, 0, 0])
    assert rig.pool.status() == []
    rig.pool.invalidate(rig.backend)
    rig.pool.invalidate()
    result_of(rig.ask())
    assert rig.made[-1].generation == 2


def test_what_is_kept_of_an_endpoint_string_is_made_anew_after_invalidate() -> None:
    from tests.manager.test_endpoint_of_backend import NAMED, Net

    net = Net()
    first = net.pool.connect("us", NAMED)
    record = next(iter(net.pool._managers.records))
    kept = record.endpoint(net.reactor)
    assert record.endpoint(net.reactor) is kept
    net.pool.invalidate()
    assert record.endpoint(net.reactor) is not kept
    first.addErrback(lambda _: None)
    net.pool.close(0)
    net.reactor.pump([0, 60])


# What goes wrong, and secrets


def test_a_callable_that_raises_fails_the_attempt_and_is_named() -> None:
    def fetch_certificate() -> Any:
        raise FileNotFoundError("no such file")

    rig = Making(fetch_certificate)
    error = rig.error()
    assert "fetch_certificate that makes its endpoints raised FileNotFoundError" in str(error)
    assert isinstance(error.reason.__cause__, FileNotFoundError)


SECRET = "hunter2"


@pytest.mark.parametrize(
    "made",
    [
        SECRET,
        f"tcp:{SECRET}",
        f"{SECRET}:a:1",
        f"tcp:a:{SECRET}",
        (SECRET, 80),
        {"p": SECRET},
        None,
    ],
)
def test_what_is_no_endpoint_fails_the_attempt_and_is_not_shown(made: Any) -> None:
    def fetch_endpoint() -> Any:
        return made

    rig = Making(fetch_endpoint)
    error = rig.error()
    assert "fetch_endpoint" in str(error)
    assert isinstance(error.reason, TypeError | ValueError)
    seen: BaseException | None = error
    while seen is not None:
        assert SECRET not in f"{seen} {seen!r}"
        seen = seen.__cause__ if seen.__cause__ is not None else None
    assert SECRET not in str(rig.pool.explain())


@pytest.mark.parametrize("made", [None, "no endpoint", ("127.0.0.1", 80)])
def test_what_is_no_endpoint_is_a_mistake_that_costs_no_back_off_and_ejects_nothing(
    made: Any,
) -> None:
    rig = Making(lambda: made, backoff=Backoff())
    for _ in range(20):
        error = rig.error()
        assert error.is_mistake
        assert error.retry_in == 0
    assert rig.pool.status([rig.backend])[0].state is State.OPEN


def test_a_callable_that_cannot_be_called_is_no_backend() -> None:
    with pytest.raises(TypeError, match="callable of at most one argument"):
        Backend(lambda one, two: None)
    with pytest.raises(TypeError, match="make one Backend"):
        Backend.of(lambda: None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="makes an endpoint for each connect"):
        Backend(lambda: None).connector(None)


def test_the_texts_of_a_backend_show_no_secrets() -> None:
    class Proxy(FakeBackend):
        def __repr__(self) -> str:
            return f"Proxy(user='me', password={SECRET!r}, port=1)"

    def connect_with(password: str) -> Any:
        return None

    for endpoint in (
        Proxy(Clock()),
        partial(connect_with, SECRET),
        partial(connect_with, password=SECRET),
    ):
        backend = Backend(endpoint)
        for text in (str(backend), repr(backend)):
            assert SECRET not in text
    assert str(Backend(partial(connect_with, SECRET))).endswith("connect_with()")
    with pytest.raises(TypeError) as caught:
        Backend.of(Proxy(Clock()))  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)
    with pytest.raises(ValueError, match="password=") as refused:
        Backend(f"nonsense:a:80:password={SECRET}")
    assert SECRET not in str(refused.value)


def test_two_backends_of_one_callable_are_two() -> None:
    rig = Making()
    assert Backend(rig.make) != Backend(rig.make)
    assert rig.backend == rig.backend


def test_a_cancelled_request_lets_the_endpoint_be_made() -> None:
    later: Deferred[Any] = Deferred()
    rig = Making(lambda: later)
    asked = rig.ask()
    asked.cancel()
    with pytest.raises(CancelledError):
        result_of(asked)
    later.callback(rig.fake)
    assert rig.pool.status()[0].idle == 1


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_the_addresses_of_a_host_in_strings_made_for_each_connect_are_kept(kind: str) -> None:
    net = NamedRig()
    net.resolver.answers = [ONE, TWO]
    backend = Backend(lambda: f"{kind}:a.test:80")
    pool: Pool[Any] = Pool(net.reactor, Protocol, policy=Policy(idents="separate"))
    for ident in "abcd":
        pool.connect(ident, backend)
    assert len(net.resolver.asked) == 1
    assert sorted(net.tried) == [ONE, ONE, TWO, TWO]
    pool.invalidate(backend)
    pool.connect("e", backend)
    assert len(net.resolver.asked) > 1


def test_the_addresses_of_few_hosts_are_kept_for_strings_that_name_others_each_time() -> None:
    hosts, reactor = Hosts(), NamedRig().reactor
    first = hosts.addresses(reactor, "a.test", 80)
    for number in range(40):
        hosts.addresses(reactor, f"{number}.test", 80)
        assert hosts.addresses(reactor, "a.test", 80) is first
    assert len(hosts._known) <= 16
