"""C{FrontService}: listens for the front's clients, and drains the front when it is stopped.

Its state is the listening ports, from start to stop.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReadDescriptor,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from kolus.daemon.listening.behind_balancers import BEHIND_BALANCERS
from kolus.daemon.listening.letting_go import let_go
from kolus.support import CannotListen, why_not_listening

__all__ = ["Drainable", "FrontService", "Listening"]

_log = Logger()

Listening = tuple[str, IStreamServerEndpoint]
"""A server endpoint string, for messages, and its endpoint."""

_ACCEPT_ROUNDS = 100  # each accepts many; the bound matters if descriptors have run out


class Drainable(Protocol):
    """A protocol factory that can let its clients finish.

    @ivar clients: number of connected clients.
    @ivar served: number of clients that were served and have ended.
    @ivar refused: number of clients that were closed because they got no lease.
    """

    served: int
    refused: int

    @property
    def clients(self) -> int:
        """See the class."""

    def listens(self, port: IListeningPort, factory: Any) -> IListeningPort:
        """A port accepts clients for it.

        @return: what is to be stopped in its place.
        """

    def forgets(self, port: IListeningPort) -> None:
        """A port, as C{listens} gave it, accepts no clients any more."""

    def abort(self) -> None:
        """Abort the clients that are left."""

    @property
    def is_empty(self) -> bool:
        """Whether nobody is connected."""

    def change(self, settings: Any, certificates: Any, send_proxy: Any) -> None:
        """Go on with other settings."""

    def drain(self, grace: float) -> Deferred[int]:
        """Let the clients finish for at most C{grace} seconds, then abort them.

        @return: fires with the number of aborted clients, when no client is left.
        """


class FrontService(Service):
    """Listens until it is stopped, then drains the front.

    @ivar front: the front.
    @ivar grace: seconds that clients have to finish when the service is stopped.
    """

    def __init__(
        self,
        front: Drainable,
        listening: Sequence[Listening],
        *,
        grace: float = 30.0,
        certificates: Any = None,
    ) -> None:
        """
        @param front: must also be a protocol factory.
        @param certificates: the C{ListenerCertificates} that the front has.
        """
        self.front = front
        self._listening = listening
        self.grace = grace
        self._certificates = certificates
        self._open: list[tuple[str, IListeningPort]] = []

    def change(self, settings: Any, certificates: Any, send_proxy: Any) -> None:
        """Go on with other settings of the front."""
        self._certificates = certificates
        self.front.change(settings, certificates, send_proxy)

    @property
    def expiries(self) -> dict[str, float]:
        """When the certificates in each file that it shows expire, in seconds since 1970."""
        return {} if self._certificates is None else dict(self._certificates.expiries)

    @property
    def ports(self) -> list[IListeningPort]:
        """The listening ports."""
        return [port for _, port in self._open]

    def offers(self) -> list[tuple[str, IListeningPort]]:
        """The server endpoint strings of the listening ports, and the ports."""
        return list(self._open)

    def release(self) -> None:
        """Accept no more, and close the descriptors of the ports. Another process has the sockets,
        so they are not shut down, and the path of a UNIX socket stays."""
        ports, self._open = self.ports, []
        for port in ports:
            self.front.forgets(port)
            let_go(port)

    def privilegedStartService(self) -> None:
        """Listen.

        @raise CannotListen: listening failed on one of the addresses.
        """
        self._listen_on(self._listening)

    def open_others(self, listening: Sequence[Listening]) -> list[IListeningPort]:
        """Listen on those of the addresses on which it does not listen yet.

        @return: the new ports.
        @raise CannotListen: listening failed on one of them. None of the others is opened, then.
        """
        known = [description for description, _ in self._open]
        return self._listen_on([each for each in listening if each[0] not in known])

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as text."""
        return [_readable(port.getHost()) for port in self.ports]

    def keep(self, descriptions: Sequence[str]) -> None:
        """Close the ports on other addresses. Clients stay, with those that the kernel has accepted
        already."""
        ports = [port for each, port in self._open if each not in descriptions]
        for port in ports:
            _accept_waiting(port)
        self.close(ports)

    def close(self, ports: Sequence[IListeningPort]) -> None:
        """Close some ports, on which nobody was served yet. Who waits there is left to another
        process that may have the socket, too."""
        self._open = [each for each in self._open if each[1] not in ports]
        for port in ports:
            self.front.forgets(port)
            _log.info("kolus no longer listens on {address}", address=_readable(port.getHost()))
            maybeDeferred(port.stopListening).addErrback(
                lambda failure: _log.failure("closing a port failed", failure)
            )

    def startService(self) -> None:
        """Listen, unless C{privilegedStartService} did so already.

        @raise CannotListen: listening failed on one of the addresses.
        """
        if not self.ports:
            self.privilegedStartService()
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[None]:
        """Stop listening, and drain the front.

        @return: fires with C{None} when no client is left.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        ports, self._open = self.ports, []
        for port in ports:
            _accept_waiting(port)
        await gatherResults([maybeDeferred(port.stopListening) for port in ports])
        await self.front.drain(self.grace)

    def _listen_on(self, listening: Sequence[Listening]) -> list[IListeningPort]:
        before = self.ports
        try:
            for description, endpoint in listening:
                self._listen(description, endpoint)
        except CannotListen:
            self.close([each for each in self.ports if each not in before])
            raise
        return [each for each in self.ports if each not in before]

    def _listen(self, description: str, endpoint: IStreamServerEndpoint) -> None:
        failures: list[Failure] = []
        factory: Any = self.front
        if description.startswith(BEHIND_BALANCERS):
            factory = factory.behind_balancers()
        assert IProtocolFactory.providedBy(factory)
        listened = endpoint.listen(factory).addCallbacks(
            self._listens, failures.append, callbackArgs=(description, factory)
        )
        for failure in failures:
            raise CannotListen(why_not_listening(description, failure)) from None
        listened.addCallback(_report_late, description, failures)

    def _listens(self, port: IListeningPort, description: str, factory: Any) -> None:
        port = self.front.listens(port, factory)
        self._open.append((description, port))
        _log.info("kolus listens on {address}", address=_readable(port.getHost()))


def _report_late(_: None, description: str, failures: list[Failure]) -> None:
    """Log failures that an endpoint reported only after the service had started."""
    for failure in failures:
        _log.critical("{why}", why=why_not_listening(description, failure))


def _accept_waiting(port: IListeningPort) -> None:
    """Accept the clients that the kernel has queued. Closing the port would reset them."""
    if not IReadDescriptor.providedBy(port):
        return
    poll = select.poll()
    poll.register(port.fileno(), select.POLLIN)
    for _ in range(_ACCEPT_ROUNDS):
        if not poll.poll(0):
            return
        port.doRead()


def _readable(address: Any) -> str:
    host = getattr(address, "host", None)
    if isinstance(address, UNIXAddress):
        return os.fsdecode(address.name or b"")
    if host is None:
        return str(address)
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
