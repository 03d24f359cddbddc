"""C{Addresses}: the addresses of a host name, and how connecting to each of them went.

Its state is the addresses, until when they may be used, whether all have failed, the question that
is under way, and how many attempts there were. The state of a question is its waiters, and the
addresses of its answer so far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from kolus.endpoints.machine import threads_fault
from kolus.errors import MachineFault, describe
from kolus.support import steady

__all__ = ["Address", "Addresses"]

_UNANSWERED = DNSLookupError("the name is not being resolved")
_KEPT = 15.0
"""Seconds for which addresses are used before the name is resolved again."""


@dataclass(slots=True, eq=False)
class Address:
    """One address of a host."""

    host: str
    """The address, with its scope if it has one."""
    turn: int = 0
    """The number of the last attempt to connect to it; 0 if there was none."""
    failed: bool = False
    """Whether an attempt failed, or was overtaken by a later one, since the name was resolved. If
    it was resolved because all had failed, this stays, so that what is new is tried first."""


class Addresses:
    """Resolves one name, keeps the answer for 15 s, and says which address is to be tried next."""

    def __init__(self, reactor: Any, name: str, port: int) -> None:
        """
        @param reactor: provides C{IReactorPluggableNameResolver}. Its resolver may be replaced.
        @param port: what to tell the resolver.
        """
        self.reactor = reactor
        self.now = steady(reactor).seconds
        self.name = name
        self.port = port
        self._turns = count(1)
        self._known: list[Address] = []
        self._kept_until = -math.inf
        self._is_doubtful = False
        self._question: _Question | None = None

    def get(self) -> Deferred[list[Address]]:
        """Get the addresses. If they are too old, the name is resolved. Calls that come
        meanwhile wait for the same answer.

        @return: fires with at least one address; fails with C{DNSLookupError}, or with
            C{MachineFault} if this machine cannot ask. Cancelling it
            cancels the resolution if nobody else waits for it.
        """
        now = self.now()
        if now < self._kept_until and not self._is_doubtful:
            return succeed(self._known)
        question = self._question
        if question is not None and now < question.asked_at + _KEPT:
            return question.wait()
        self._question = question = _Question(self)
        answer = question.wait()
        question.ask()
        return answer

    def take(self, untried: list[Address]) -> Address:
        """Remove the address that is to be tried next: the one tried the longest ago among those
        that have not failed, or else among all."""
        address = min(untried, key=lambda each: (each.failed, each.turn))
        untried.remove(address)
        address.turn = next(self._turns)
        return address

    def answered(self, question: _Question, hosts: list[str]) -> list[Address]:
        """Called by a question that has ended.

        @param hosts: its answer. If that is empty, what is known stays as it is.
        @return: the addresses of the answer. If there are none, and it was asked because all that
            are known had failed, these.
        """
        self.forget(question)
        was_doubtful, self._is_doubtful = self._is_doubtful, False
        if hosts:
            known = {each.host: each for each in self._known}
            self._known = [known.get(host) or Address(host) for host in hosts]
            for address in self._known:
                address.failed = address.failed and was_doubtful
            self._kept_until = self.now() + _KEPT
        is_kept = was_doubtful and self.now() < self._kept_until
        return self._known if hosts or is_kept else []

    def all_failed(self) -> None:
        """None of the addresses answered: the host may have others, so ask before the next
        connect."""
        self._is_doubtful = True

    def forget(self, question: _Question) -> None:
        """Called by a question that nobody is to wait for any more."""
        if question is self._question:
            self._question = None


@implementer(IResolutionReceiver)
class _Question:
    """One resolution of the name, and the calls that wait for it.

    Twisted's own resolver runs C{getaddrinfo} in a thread and cannot cancel it. Such a question
    goes on, and the next connect waits for it instead of using another thread. It is not waited
    for longer than 15 s, because that resolver never ends if C{getaddrinfo} raises anything but
    C{gaierror}.
    """

    def __init__(self, addresses: Addresses) -> None:
        self.asked_at = addresses.now()
        self._addresses = addresses
        self._hosts: dict[str, None] = {}
        self._waiting: list[Deferred[list[Address]]] = []
        self._resolution: IHostResolution | None = None
        self._over = False

    def wait(self) -> Deferred[list[Address]]:
        waiter: Deferred[list[Address]] = Deferred(self._leave)
        self._waiting.append(waiter)
        return waiter

    def ask(self) -> None:
        its = self._addresses
        try:
            its.name.encode("idna")  # getaddrinfo does the same, but its error would be lost
            if "\0" in its.name:
                raise ValueError("a null character")
            its.reactor.nameResolver.resolveHostName(self, its.name, its.port)
        except Exception as error:
            self._end(error)
        else:
            # Twisted's own resolver loses the error if it cannot start a thread.
            fault = None if self._over else threads_fault(its.reactor, _UNANSWERED, may_wait=True)
            if fault is not None:
                self._end(fault)

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._resolution = resolutionInProgress

    def addressResolved(self, address: IAddress) -> None:
        if isinstance(address, IPv4Address | IPv6Address):
            scope = getattr(address, "scopeID", None)
            self._hosts[f"{address.host}%{scope}" if scope else address.host] = None

    def resolutionComplete(self) -> None:
        self._end(LookupError("no address"))

    def _end(self, why: Exception) -> None:
        if self._over:
            return
        self._over = True
        addresses = self._addresses.answered(self, list(self._hosts))
        while self._waiting:  # a waiter that is called may cancel others
            waiter = self._waiting.pop(0)
            if addresses:
                waiter.callback(addresses)
            else:
                waiter.errback(self._error(why))

    def _error(self, why: Exception) -> Exception:
        if isinstance(why, MachineFault):
            return why
        what = why.args[0] if type(why) is LookupError else describe(why)
        error = DNSLookupError(f"{self._addresses.name}: {what}")
        error.__cause__ = why
        return error

    def _leave(self, waiter: Deferred[list[Address]]) -> None:
        """A waiter was cancelled."""
        self._waiting.remove(waiter)
        if self._waiting or self._over or self._resolution is None:
            return
        try:
            self._resolution.cancel()
        except NotImplementedError:
            return
        self._over = True
        self._addresses.forget(self)
