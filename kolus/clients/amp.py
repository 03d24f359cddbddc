"""AMP: calls share a few connections, and their answers come in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.protocols.amp import AMP, ProtocolSwitchCommand

from kolus.backend import AnyBackend, Backend
from kolus.balance import Balancer
from kolus.clients.calls import run_call
from kolus.events import Observer
from kolus.lease import Lease
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.status import Status
from kolus.watching import PoolExplanation

__all__ = ["AMPPool"]

_IDENT = "amp"


class AMPPool:
    """A pool of AMP connections: C{await calls.callRemote(Sum, a=1, b=2)}.

    An error that the server answers with is the caller's, and the connection goes on: other calls
    share it.

    @ivar pool: the pool of kolus, with all that it can do.
    @ivar group: the servers.
    """

    def __init__(
        self,
        reactor: Any,
        backends: Iterable[AnyBackend],
        *,
        protocol: Callable[[], AMP] = AMP,
        policy: Policy | None = None,
        balancer: Balancer | None = None,
        observers: Iterable[Observer] = (),
    ) -> None:
        """
        @param backends: where the servers are; each of them serves any call.
        @param protocol: makes the protocol of each connection, for servers that call back.
        @param policy: all settings; its C{slots} is the number of calls that share a connection at
            a time. The default is C{Policy(slots=100)}.
        @param balancer: chooses the server; the policy's if C{None}.
        @raise ValueError: a backend is invalid, or C{policy} has no C{slots}.
        """
        policy = policy or Policy(slots=100)
        if policy.slots is None:
            raise ValueError("policy has no slots: write Policy(slots=100), calls share them")
        self.pool: Pool[AMP] = Pool(reactor, protocol, policy=policy, observers=observers)
        self.group = self.pool.group([Backend.of(each) for each in backends], balancer, _IDENT)

    def callRemote(self, command: Any, **arguments: Any) -> Deferred[Any]:
        """See C{AMP.callRemote}. A call without an answer counts as answered when it is written.

        @raise TypeError: the command would switch the protocol, which a pooled connection cannot.
        """
        if isinstance(command, type) and issubclass(command, ProtocolSwitchCommand):
            raise TypeError(
                f"{command.__name__} switches the protocol: use a connection of its own"
            )

        def call(protocol: Any) -> Deferred[Any]:
            answer = protocol.callRemote(command, **arguments)
            return _answered() if answer is None else answer

        asked: Deferred[Lease[Any]] = self.group.connect(_IDENT)
        return asked.addCallback(run_call, call, _is_harmless)

    def status(self) -> list[Status]:
        """The numbers of each server."""
        return self.pool.status(self.group.backends)

    def explain(self) -> PoolExplanation:
        """See L{Pool.explain}."""
        return self.pool.explain()

    def close(self, timeout: float = 10.0) -> Deferred[None]:
        """See L{Pool.close}."""
        return self.pool.close(timeout)


def _answered() -> Deferred[None]:
    answered: Deferred[None] = Deferred()
    answered.callback(None)
    return answered


def _is_harmless(error: BaseException) -> bool:
    return not isinstance(error, ConnectionClosed)
