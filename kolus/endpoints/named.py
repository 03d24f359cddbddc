"""C{NamedEndpoint}: connects to a host by its name, at the first of its addresses that answers.

An endpoint has no state but its C{Addresses}. Each connect is a race of its own. Its state is the
addresses that are left to try, the attempts under way, the errors of those that failed, the winner,
and the timer of the next attempt. Its outcome fires exactly once.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError, TimeoutError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.endpoints.addresses import Address, Addresses
from kolus.endpoints.machine import machine_fault
from kolus.errors import describe
from kolus.support import steady

__all__ = ["NamedEndpoint"]

_ATTEMPT_DELAY = 0.25
"""Seconds to wait for an answer before the next address is tried, too: the Connection Attempt Delay
of RFC 8305, section 5."""


@implementer(IStreamClientEndpoint)
class NamedEndpoint:
    """A TCP port of a host that is known by its name.

    Each connect begins at the address, IPv4 or IPv6, that was tried the longest ago. So connections
    are spread over all addresses, whatever their order in the answers. An address that failed, or
    was overtaken by one that was tried after it, comes last until the name is resolved again.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout: float = 30.0,
        bind_address: Any = None,
        addresses: Addresses | None = None,
    ) -> None:
        """
        @param reactor: provides C{IReactorPluggableNameResolver}. The resolver that it has when the
            name is resolved is used.
        @param timeout: the limit of a connect in seconds, for the name and all addresses together.
        @param bind_address: the local address of connections, as Twisted's endpoints take it;
            C{None}: the system chooses one.
        @param addresses: what is known of the host; C{None}: nothing yet.
        """
        self.addresses = Addresses(reactor, host, port) if addresses is None else addresses
        self.timeout = timeout
        self._reactor = reactor
        self._host = host
        self._port = port
        self._bind_address = bind_address

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect to the first address that answers. The next address is tried as soon as one
        fails. It is also tried, beside the others, when none has answered for 0.25 s.

        @param protocolFactory: builds one protocol, for the address that answers first.
        @return: fires with the protocol. Fails with C{DNSLookupError} if the name has no address;
            with C{TimeoutError} of C{twisted.internet.error}; with the error of the only address,
            or with a C{ConnectError} that names all addresses and their errors, whose class is
            theirs if they agree; with what the factory raised. Cancelling it ends the resolution
            and all attempts, and it fails with C{ConnectingCancelledError}, which has a note of
            what is known of each address.
        """
        return _Race(self, self._reactor, protocolFactory).run()

    def connect_to(self, host: str, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect to one address, without a time limit."""
        kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
        endpoint = kind(self._reactor, host, self._port, None, self._bind_address)  # type: ignore[arg-type]
        return endpoint.connect(factory)

    def host_address(self) -> HostnameAddress:
        return HostnameAddress(self._host.encode("idna"), self._port)

    def __str__(self) -> str:
        return f"{self._host}:{self._port}"

    def __repr__(self) -> str:
        return f"<NamedEndpoint {self}>"


class _Race:
    """One connect.

    @ivar outcome: what the caller of the endpoint gets.
    """

    def __init__(self, endpoint: NamedEndpoint, clock: Any, factory: IProtocolFactory) -> None:
        self.outcome: Deferred[IProtocol] = Deferred(self._cancelled)
        self._endpoint = endpoint
        self._clock = steady(clock)
        self.factory = factory
        self._resolving = endpoint.addresses.get()
        self._untried: list[Address] = []
        self._attempts: dict[Address, Deferred[IProtocol]] = {}
        self._errors: dict[Address, BaseException] = {}
        self._winner: Address | None = None
        self._timer: IDelayedCall | None = None
        self._over = False

    def run(self) -> Deferred[IProtocol]:
        self._resolving.addCallbacks(self._begin, self._unresolved)
        limit = max(0.0, self._endpoint.timeout)
        return self.outcome.addTimeout(limit, self._clock, self._timed_out)

    def _begin(self, addresses: list[Address]) -> None:
        self._untried = list(addresses)
        self._try_next()

    def _unresolved(self, failure: Failure) -> None:
        if not self._over:
            self._fail(failure)

    def _try_next(self) -> None:
        """Try the next address. If none is left and none may still answer, the race has failed."""
        self._stop_timer()
        if self._untried:
            address = self._endpoint.addresses.take(self._untried)
            if self._untried:
                self._timer = self._clock.callLater(_ATTEMPT_DELAY, self._try_next)
            attempt = self._endpoint.connect_to(address.host, _Entrant(self, address))
            self._attempts[address] = attempt
            attempt.addCallbacks(self._connected, self._failed, errbackArgs=(address,))
        elif not self._attempts:
            self._endpoint.addresses.all_failed()
            self._fail(Failure(self._error()))

    def build(self, address: Address, peer: IAddress) -> IProtocol | None:
        """The first address has answered: end the other attempts, so that no other answers, and
        build the protocol."""
        self._winner = address
        address.failed = False
        for overtaken in takewhile(lambda each: each is not address, self._attempts):
            overtaken.failed = True
        self._stop()
        protocol = self.factory.buildProtocol(peer)
        # The factory may have cancelled the connect, when no attempt could be ended any more.
        return None if self.outcome.called else protocol

    def _connected(self, protocol: IProtocol) -> None:
        if not self.outcome.called:
            self.outcome.callback(protocol)
        elif transport := getattr(protocol, "transport", None):
            transport.loseConnection()  # the protocol has cancelled the connect

    def _failed(self, failure: Failure, address: Address) -> None:
        if address is self._winner:
            self._fail(failure)  # the factory raised, or built no protocol
        elif not self._over:
            assert failure.value is not None
            address.failed = True
            self._errors[address] = failure.value
            del self._attempts[address]
            self._try_next()

    def _fail(self, failure: Failure) -> None:
        self._over = True
        if not self.outcome.called:
            self.outcome.errback(failure)

    def _cancelled(self, outcome: Deferred[IProtocol]) -> None:
        error = ConnectingCancelledError(self._endpoint.host_address())
        error.add_note(self._report())
        self._stop()
        outcome.errback(error)

    def _timed_out(self, cancelled: object, limit: float) -> Failure:
        for address in self._attempts:
            address.failed = True
        late = f"{self._endpoint} took longer than {limit:g} s ({self._report()})"
        return Failure(TimeoutError(string=late))

    def _stop(self) -> None:
        """End all but the winner's attempt, which has ended."""
        self._over = True
        self._stop_timer()
        self._resolving.cancel()
        for address, attempt in tuple(self._attempts.items()):
            if address is not self._winner:
                attempt.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _error(self) -> BaseException:
        """The error when all addresses have failed."""
        errors = list(self._errors.values())
        if len(errors) == 1:
            return errors[0]
        kinds = {type(each) for each in errors}
        kind: type[Any] = kinds.pop()
        if kinds or kind.__init__ is not ConnectError.__init__:
            kind = ConnectError
        error = kind(string=f"{self._endpoint} ({self._report()})")
        if all(machine_fault(each, self._endpoint.addresses.reactor) for each in errors):
            error.__cause__ = errors[0]
        return error  # type: ignore[no-any-return]

    def _report(self) -> str:
        """What is known of each address."""
        known = {address: describe(error) for address, error in self._errors.items()}
        known.update(dict.fromkeys(self._attempts, "no answer"))
        known.update(dict.fromkeys(self._untried, "not tried"))
        told = "; ".join([f"{address.host}: {what}" for address, what in known.items()])
        return told or "its name was not resolved"


@implementer(IProtocolFactory)
class _Entrant:
    """The factory of one attempt. The caller's builds a protocol for the winner only.

    A connection keeps this for as long as it lives, so it is small and forgets the race.
    """

    __slots__ = ("_address", "_factory", "_race")

    def __init__(self, race: _Race, address: Address) -> None:
        self._race: _Race | None = race
        self._address = address
        self._factory = race.factory

    def doStart(self) -> None:
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        race, self._race = self._race, None
        assert race is not None  # an attempt that was ended does not connect, nor one twice
        return race.build(self._address, addr)
