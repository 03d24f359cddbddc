"""AMP: calls share a few connections, and their answers come in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionClosed
from twisted.protocols.amp import (
    AMP,
    Command,
    NoEmptyBoxes,
    ProtocolSwitchCommand,
    StartTLS,
    TooLong,
)
from twisted.python.failure import Failure

from kolus.backend import AnyBackend
from kolus.balance import Balancer
from kolus.clients.calls import WrongReply, run_call
from kolus.clients.client import Client, listed, with_slots
from kolus.errors import shown
from kolus.events import Observer
from kolus.group import Group
from kolus.lease import Lease
from kolus.policy import Policy
from kolus.pool import Pool

__all__ = ["AMPPool", "WrongReply"]

_IDENT = "amp"
_UNREADABLE = (LookupError, TypeError, ValueError, NoEmptyBoxes, TooLong)


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
        self.group = self.pool.group(listed(backends), balancer, _IDENT, ident=_IDENT)

    def callRemote(self, command: Any, **arguments: Any) -> Deferred[Any]:
        """See C{AMP.callRemote}. A call without an answer counts as answered when it is written.

        @return: fails as C{AMP.callRemote}; with C{WrongReply} if what came cannot be read.
        @raise TypeError: it is no command; or it would switch the protocol, or begin TLS, which a
            pooled connection cannot.
        """
        if not (isinstance(command, type) and issubclass(command, Command)):
            raise TypeError(f"command must be a subclass of Command, not {shown(command)}")
        if issubclass(command, ProtocolSwitchCommand):
            raise TypeError(
                f"{command.__name__} switches the protocol: use a connection of its own"
            )
        if issubclass(command, StartTLS):
            raise TypeError(
                f"{command.__name__} changes a connection that others share: give the pool a "
                "backend with TLS, such as 'tls:HOST:PORT'"
            )

        def call(protocol: Any) -> Deferred[Any]:
            try:
                answer: Deferred[Any] | None = protocol.callRemote(command, **arguments)
            except TooLong as error:
                if not error.args:  # Twisted's says nothing but its name
                    error.args = (_too_long(error),)
                raise
            if answer is None:
                return succeed(None)
            if not answer.called:  # else it could not be sent
                answer.addErrback(_explained, command)
            return answer

        asked: Deferred[Lease[Any]] = self.group.connect(_IDENT)
        return asked.addCallback(run_call, call, _is_harmless)


def _too_long(error: TooLong) -> str:
    what, most = ("key", 0xFF) if error.isKey else (f"value of {error.keyName!r}", 0xFFFF)
    return f"the {what} has {len(error.value)} bytes; AMP takes {most} at most"


def _explained(failure: Failure, command: Any) -> Failure:
    """A call whose answer AMP cannot read fails with any error that the reading raised. This says
    what that was about."""
    error = failure.value
    if isinstance(error, tuple(command.allErrors)) or not isinstance(error, _UNREADABLE):
        return failure
    why = f"{type(error).__name__} {error}".rstrip()  # the repr of TooLong may raise
    wrong = WrongReply(f"the AMP server sent no answer to {command.__name__}: {why}")
    wrong.__cause__ = error
    return Failure(wrong)


def _is_harmless(error: BaseException) -> bool:
    return not isinstance(error, ConnectionClosed)
