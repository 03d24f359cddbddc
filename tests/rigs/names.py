"""A fake resolver with C{twisted.names}' own records and errors, and a source that asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent
from twisted.names import dns
from twisted.names.error import DNSNameError, DNSServerError

from kolus.backend import Backend
from kolus.backoff import Backoff
from kolus.sources import DNSSource

__all__ = [
    "NAME",
    "SERVICE",
    "Answer",
    "Ask",
    "Asked",
    "Names",
    "a",
    "aaaa",
    "alias",
    "asking",
    "no_such_name",
    "server_failed",
    "srv",
]

NAME, SERVICE = "backends.test", "_redis._tcp.backends.test"


def a(address: str, ttl: int = 30) -> dns.RRHeader:
    return dns.RRHeader(NAME, dns.A, dns.IN, ttl, dns.Record_A(address, ttl))


def aaaa(address: str, ttl: int = 30) -> dns.RRHeader:
    return dns.RRHeader(NAME, dns.AAAA, dns.IN, ttl, dns.Record_AAAA(address, ttl))


def alias(name: str, ttl: int = 30) -> dns.RRHeader:
    return dns.RRHeader(NAME, dns.CNAME, dns.IN, ttl, dns.Record_CNAME(name, ttl))


def srv(target: str | bytes, port: int = 6379, priority: int = 0, weight: int = 1) -> dns.RRHeader:
    record = dns.Record_SRV(priority, weight, port, target, 30)
    return dns.RRHeader(SERVICE, dns.SRV, dns.IN, 30, record)


def no_such_name() -> Exception:
    return DNSNameError(dns.Message(rCode=dns.ENAME))


def server_failed() -> Exception:
    return DNSServerError(dns.Message(rCode=dns.ESERVER))


Answer = Sequence[dns.RRHeader] | Exception | None


class Names:
    """A resolver whose answers a test sets.

    @ivar v4, v6, services: its answers to the three kinds of questions: records, an error, or
        C{None} to let the question wait.
    @ivar asked: the names that were asked for, with the time-outs.
    """

    def __init__(self) -> None:
        self.v4: Answer = ()
        self.v6: Answer = ()
        self.services: Answer = ()
        self.asked: list[tuple[str, Any]] = []
        self.waiting: list[Deferred[Any]] = []
        self.cancelled = 0

    def lookupAddress(self, name: str, timeout: Any = None) -> Deferred[Any]:
        return self._answer(name, timeout, self.v4)

    def lookupIPV6Address(self, name: str, timeout: Any = None) -> Deferred[Any]:
        return self._answer(name, timeout, self.v6)

    def lookupService(self, name: str, timeout: Any = None) -> Deferred[Any]:
        return self._answer(name, timeout, self.services)

    def _answer(self, name: str, timeout: Any, answer: Answer) -> Deferred[Any]:
        self.asked.append((name, timeout))
        if answer is None:
            self.waiting.append(Deferred(self._cancel))
            return self.waiting[-1]
        if isinstance(answer, Exception):
            return fail(answer)
        return succeed((list(answer), [], []))

    def _cancel(self, waiting: Deferred[Any]) -> None:
        self.cancelled += 1


class Half:
    """A random number generator that always draws one half."""

    def random(self) -> float:
        return 0.5


class Asked:
    """A source, its clock and fake resolver, and the record of its lists and log lines."""

    def __init__(self, events: list[LogEvent], options: dict[str, Any]) -> None:
        self.clock = Clock()
        self.names = Names()
        self.told: list[Sequence[Backend]] = []
        service = options.get("kind") == "srv"
        self.source = DNSSource(
            self.clock,
            SERVICE if service else NAME,
            None if service else 6379,
            resolver=self.names,  # type: ignore[arg-type]
            backoff=Backoff(first=2.0, most=8.0),
            rng=Half(),
            **options,
        )
        self._events = events

    def start(self) -> None:
        self.source.start(self.told.append)

    @property
    def endpoints(self) -> list[list[str]]:
        return [[str(each.endpoint) for each in backends] for backends in self.told]

    @property
    def log(self) -> list[str]:
        return [
            formatEvent(each)
            for each in self._events
            if each["log_namespace"] == "kolus.sources.dns"
        ]

    @property
    def delay(self) -> float:
        """Seconds until it asks again."""
        (call,) = self.clock.getDelayedCalls()
        return call.getTime() - self.clock.seconds()

    def ask_again(self) -> None:
        self.clock.advance(self.delay)


Ask = Callable[..., Asked]


def asking(log_events: list[LogEvent]) -> Iterator[Ask]:
    """A fixture that makes and starts a source: C{ask(v4=[a(...)], services=..., least_ttl=...)}.

    Its sources are stopped at the end, and must leave nothing on their clocks.
    """
    made: list[Asked] = []

    def begin(v4: Answer = (), v6: Answer = (), services: Answer = (), **options: Any) -> Asked:
        asked = Asked(log_events, options)
        asked.names.v4, asked.names.v6, asked.names.services = v4, v6, services
        made.append(asked)
        asked.start()
        return asked

    yield begin
    for each in made:
        each.source.stop()
        assert each.clock.getDelayedCalls() == []
