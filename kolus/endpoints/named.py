"""C{NamedEndpoint}: connects to a host by its name, at whichever of its addresses answers.

What is remembered between connects belongs to the endpoint: the addresses with how they did, until
when they may be used, the question that is under way, and how many attempts there were. Each
connect is a race of its own: the addresses that are left, the attempts under way, what the others
failed with, one timer, and the winner; C{outcome} fires exactly once.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    DNSLookupError,
    TimeoutError,
)
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.errors import describe

__all__ = ["NamedEndpoint"]

_KEPT = 15.0
"""Seconds for which the addresses of a name are used without asking again."""

_PATIENCE = 0.25
"""Seconds after which the next address is tried beside one that has not answered: the Connection
Attempt Delay of RFC 8305, section 5."""


@implementer(IStreamClientEndpoint)
class NamedEndpoint:
    """A TCP port of a host that is known by its name.

    Each connect begins at the address, IPv4 or IPv6, that was tried the longest ago, so that
    connections spread over all of them, whatever the order of the answers. An address that failed,
    or was overtaken by one that was tried after it, comes last until the name is resolved anew.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout: float = 30.0,
        bind_address: tuple[str, int] | None = None,
    ) -> None:
        """
        @param reactor: one that provides C{IReactorPluggableNameResolver}. The resolver is looked
            up at each question.
        @param timeout: the limit of a connect in seconds, for the name and all addresses together.
        @param bind_address: where connections come from; C{None}: what the system chooses.
        """
        self.reactor = reactor
        self.host = host
        self.port = port
        self.timeout = timeout
        self.turns = count(1)
        self._bind_address = bind_address
        self._places: list[_Place] = []
        self._kept_until = reactor.seconds()
        self._question: _Question | None = None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect to the first address that answers. The next is tried as soon as one fails, and
        beside one that has not answered for a quarter of a second.

        @param protocolFactory: builds a protocol for the address that answers first, and no other.
        @return: fires with the protocol. Fails with C{DNSLookupError} if the name has no address;
            with C{TimeoutError} of C{twisted.internet.error}; with what the only address failed
            with, or with a C{ConnectError} that names each address and its error, of their own
            class if they agree; with what the factory raised. Cancelling it ends everything that
            is under way for it; a note of the C{ConnectingCancelledError} tells of each address.
        """
        race = _Race(self, protocolFactory)
        race.start()
        return race.outcome

    def known(self) -> list[_Place]:
        """The addresses that may be used without asking; none if they are too old."""
        return self._places if self.reactor.seconds() < self._kept_until else []

    def ask(self) -> Deferred[list[_Place]]:
        """Resolve the name, or wait for the question that is under way.

        @return: fires with one address or more; fails with C{DNSLookupError}. When all who wait
            have cancelled, the question is.
        """
        question = self._question
        if question is not None and self.reactor.seconds() < question.asked_at + _KEPT:
            return question.wait()
        question = self._question = _Question(self)
        answer = question.wait()
        question.ask()
        return answer

    def answered(self, question: _Question, hosts: list[str]) -> list[_Place]:
        """A question has ended: the addresses that are known now, none if it gave none."""
        self.dropped(question)
        if not hosts:
            return []
        known = {place.host: place for place in self._places}
        self._places = [known.get(host) or self._place(host) for host in hosts]
        for place in self._places:
            place.failed = False
        self._kept_until = self.reactor.seconds() + _KEPT
        return self._places

    def dropped(self, question: _Question) -> None:
        """A question is not to be waited for any more."""
        if question is self._question:
            self._question = None

    def _place(self, host: str) -> _Place:
        kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
        # The race keeps the time: a timer for each attempt would be one too many.
        endpoint = kind(self.reactor, host, self.port, None, self._bind_address)  # type: ignore[arg-type]
        return _Place(host, endpoint)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"<NamedEndpoint {self}>"


class _Place:
    """One address.

    @ivar turn: the number of the last attempt there; 0 if there was none.
    @ivar failed: whether it failed or was overtaken since the name was resolved.
    """

    def __init__(self, host: str, endpoint: IStreamClientEndpoint) -> None:
        self.host = host
        self.endpoint = endpoint
        self.turn = 0
        self.failed = False

    def rank(self) -> tuple[bool, int]:
        """What sorts it among the others, the best first."""
        return (self.failed, self.turn)


@implementer(IResolutionReceiver)
class _Question:
    """One resolution of the name, and who waits for it.

    Twisted's own resolver cannot cancel one: C{getaddrinfo} runs in a thread. Such a question goes
    on, and the next connect waits for it instead of taking another thread; but not for ever, as
    that resolver never tells of an error other than C{gaierror}.
    """

    def __init__(self, endpoint: NamedEndpoint) -> None:
        self.asked_at = endpoint.reactor.seconds()
        self._endpoint = endpoint
        self._hosts: list[str] = []
        self._waiting: dict[Deferred[list[_Place]], None] = {}
        self._resolution: IHostResolution | None = None
        self._over = False

    def wait(self) -> Deferred[list[_Place]]:
        waiter: Deferred[list[_Place]] = Deferred(self._leave)
        self._waiting[waiter] = None
        return waiter

    def ask(self) -> None:
        host = self._endpoint.host
        try:
            host.encode("idna")  # what getaddrinfo does, whose error would not be told
            if "\0" in host:
                raise ValueError("a null character")
            resolver = self._endpoint.reactor.nameResolver
            resolver.resolveHostName(self, host, self._endpoint.port)
        except Exception as error:
            self._end(describe(error))

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._resolution = resolutionInProgress

    def addressResolved(self, address: IAddress) -> None:
        if not isinstance(address, IPv4Address | IPv6Address):
            return
        scope = getattr(address, "scopeID", None)
        host = f"{address.host}%{scope}" if scope else address.host
        if host not in self._hosts:
            self._hosts.append(host)

    def resolutionComplete(self) -> None:
        self._end("no address")

    def _end(self, why: str) -> None:
        if self._over:
            return
        self._over = True
        places = self._endpoint.answered(self, self._hosts)
        while self._waiting:
            waiter = next(iter(self._waiting))
            del self._waiting[waiter]
            if places:
                waiter.callback(places)
            else:
                waiter.errback(DNSLookupError(f"{self._endpoint.host}: {why}"))

    def _leave(self, waiter: Deferred[list[_Place]]) -> None:
        del self._waiting[waiter]
        if self._waiting or self._over or self._resolution is None:
            return
        try:
            self._resolution.cancel()
        except NotImplementedError:  # Twisted's own, of a question that cannot be cancelled
            return
        self._over = True
        self._endpoint.dropped(self)


class _Race:
    """One connect.

    @ivar outcome: what the caller of the endpoint has.
    """

    def __init__(self, endpoint: NamedEndpoint, factory: IProtocolFactory) -> None:
        self.outcome: Deferred[IProtocol] = Deferred(self._cancelled)
        self._factory = factory
        self._endpoint = endpoint
        self._clock = endpoint.reactor
        self._give_up_at = self._clock.seconds() + endpoint.timeout
        self._question: Deferred[list[_Place]] | None = None
        self._left: list[_Place] = []
        self._attempts: dict[_Place, Deferred[IProtocol]] = {}
        self._errors: dict[_Place, BaseException] = {}
        self._winner: _Place | None = None
        self._timer: IDelayedCall | None = None
        self._over = False

    def start(self) -> None:
        places = self._endpoint.known()
        if places:
            self._run(places)
            return
        self._question = question = self._endpoint.ask()
        self._wait()
        question.addCallbacks(self._run, self._unresolved)

    def _run(self, places: list[_Place]) -> None:
        self._question = None
        self._left = list(places)
        self._go_on()

    def _unresolved(self, failure: Failure) -> None:
        if not self._over:
            self._end(failure)

    def _go_on(self) -> None:
        """Begin at the next address; if there is none and nothing is under way, it has failed."""
        if self._left:
            place = min(self._left, key=_Place.rank)
            self._left.remove(place)
            place.turn = next(self._endpoint.turns)
            self._wait()
            entrant = _Entrant(self, place, self._factory)
            self._attempts[place] = attempt = place.endpoint.connect(entrant)
            attempt.addCallbacks(self._made, self._failed, errbackArgs=(place,))
        elif not self._attempts:
            self._end(Failure(self._error()))

    def _wait(self) -> None:
        """Set the timer for whichever comes first, the next address or the end of the time."""
        self._stop_timer()
        remaining = max(0.0, self._give_up_at - self._clock.seconds())
        if self._left and remaining > _PATIENCE:
            self._timer = self._clock.callLater(_PATIENCE, self._go_on)
        else:
            self._timer = self._clock.callLater(remaining, self._expire)

    def win(self, place: _Place) -> None:
        """This address is the first to answer: end the others, which can then answer no more."""
        self._winner = place
        place.failed = False
        for overtaken in self._attempts:
            if overtaken is place:
                break
            overtaken.failed = True
        self._stop()

    def _made(self, protocol: IProtocol) -> None:
        if not self.outcome.called:
            self.outcome.callback(protocol)
        elif transport := getattr(protocol, "transport", None):
            transport.loseConnection()  # the protocol has cancelled its own making

    def _failed(self, failure: Failure, place: _Place) -> None:
        if place is self._winner:
            self._end(failure)  # it answered, and the caller's factory would not have it
        elif not self._over:
            assert failure.value is not None
            place.failed = True
            self._errors[place] = failure.value
            del self._attempts[place]
            self._go_on()

    def _end(self, failure: Failure) -> None:
        self._stop()
        if not self.outcome.called:
            self.outcome.errback(failure)

    def _expire(self) -> None:
        late = f"{self._endpoint} took longer than {self._endpoint.timeout:g} s"
        for place in self._attempts:
            place.failed = True
        self._end(Failure(TimeoutError(string=f"{late} ({self._told()})")))

    def _cancelled(self, outcome: Deferred[IProtocol]) -> None:
        self._stop()
        host = self._endpoint.host.encode("idna")
        error = ConnectingCancelledError(HostnameAddress(host, self._endpoint.port))
        error.add_note(self._told())
        outcome.errback(error)

    def _stop(self) -> None:
        """End what is under way, but for the winner's attempt, which cannot be stopped any more."""
        self._over = True
        self._stop_timer()
        if self._question is not None:
            self._question.cancel()
        for place, attempt in tuple(self._attempts.items()):
            if place is not self._winner:
                attempt.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _error(self) -> BaseException:
        errors = list(self._errors.values())
        if len(errors) == 1:
            return errors[0]
        kinds: set[type[Any]] = {type(each) for each in errors}
        kind = kinds.pop()
        if kinds or kind.__init__ is not ConnectError.__init__:
            kind = ConnectError
        error: BaseException = kind(string=f"{self._endpoint} ({self._told()})")
        return error

    def _told(self) -> str:
        """What is known of each address."""
        if self._question is not None:
            return "its name was not resolved"
        told = {place: describe(error) for place, error in self._errors.items()}
        told.update(dict.fromkeys(self._attempts, "no answer"))
        told.update(dict.fromkeys(self._left, "not tried"))
        return "; ".join([f"{place.host}: {what}" for place, what in told.items()])


@implementer(IProtocolFactory)
class _Entrant:
    """Stands between one attempt and the caller's factory, which builds for the winner alone.

    The connection keeps it for as long as it lives, so it is small and forgets the race.
    """

    __slots__ = ("_factory", "_place", "_race")

    def __init__(self, race: _Race, place: _Place, factory: IProtocolFactory) -> None:
        self._race: _Race | None = race
        self._place = place
        self._factory = factory

    def doStart(self) -> None:
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        race, self._race = self._race, None
        assert race is not None  # an attempt that was ended does not connect, nor one twice
        race.win(self._place)
        protocol = self._factory.buildProtocol(addr)
        # The caller may have cancelled just now, when there was nothing left to stop.
        return None if race.outcome.called else protocol
