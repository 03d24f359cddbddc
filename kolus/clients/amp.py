"""AMP: calls share a few connections, and their answers come in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionClosed
from twisted.protocols.amp import AMP, ProtocolSwitchCommand

from kolus.backend import AnyBackend
from kolus.balance import Balancer
from kolus.clients.calls import run_call
from kolus.clients.client import Client, listed, with_slots
from kolus.events import Observer
from kolus.group import Group
from kolus.lease import Lease
from kolus.policy import Policy
from kolus.pool import Pool

__all__ = ["AMPPool"]

_IDENT = "amp"


class AMPPool(Client):
    """A pool of AMP connections: C{await calls.callRemote(Sum, a=1, b=2)}.

    An error that the server answers with is the caller's, and the connection goes on: other calls
    share it.

    @ivar group: the servers.
    """

    group: Group[AMP]

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
        policy = with_slots(policy)
        self.pool: Pool[AMP] = Pool(reactor, protocol, policy=policy, observers=observers)
        self.group = self.pool.group(listed(backends), balancer, _IDENT)

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
            return succeed(None) if answer is None else answer

        asked: Deferred[Lease[Any]] = self.group.connect(_IDENT)
        return asked.addCallback(run_call, call, _is_harmless)


def _is_harmless(error: BaseException) -> bool:
    return not isinstance(error, ConnectionClosed)
