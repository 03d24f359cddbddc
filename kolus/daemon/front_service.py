"""C{FrontService}: listens for the front's clients, and drains the front when it is stopped.

Its state is the listening ports, from start to stop.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import (
    IListeningPort,
    IReadDescriptor,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from kolus.daemon.listening.adopted import let_go
from kolus.daemon.listening.endpoint_string import BEHIND_BALANCERS
from kolus.support import CannotListen, host_and_port, why_not_listening

if TYPE_CHECKING:
    from kolus.daemon.route import Route
    from kolus.tunnel import Front

__all__ = ["FrontService", "Listening"]

_log = Logger()

Listening = tuple[str, IStreamServerEndpoint]
"""A server endpoint string, for messages, and its endpoint."""

_ACCEPT_ROUNDS = 100  # each accepts many; the bound matters if descriptors have run out


class FrontService(Service):
    """Listens until it is stopped, then drains the front.

    @ivar front: the front.
    @ivar route: where its clients get their leases; C{Daemon} sets it.
    @ivar grace: seconds that clients have to finish when the service is stopped.
    """

    route: Route

    def __init__(
        self,
        front: Front,
        listening: Sequence[Listening],
        *,
        grace: float = 30.0,
        certificates: Any = None,
    ) -> None:
        """
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

        @param listening: without those that another listener gives it.
        @return: the new ports.
        @raise CannotListen: listening failed on one of them. None of the others is opened, then.
        """
        known = [description for description, _ in self._open]
        return self._listen_on([each for each in listening if each[0] not in known])

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as text."""
        return [_readable(port.getHost()) for port in self.ports]

    @property
    def group(self) -> str:
        """The name of the group that serves its clients."""
        return self.route.group.name

    def keep(self, descriptions: Sequence[str]) -> None:
        """Close the ports on other addresses. Clients stay, with those that the kernel has accepted
        already."""
        ports = [port for each, port in self._open if each not in descriptions]
        for port in ports:
            _accept_waiting(port)
        self.close(ports)

    def give(self, description: str, other: FrontService, as_its: str) -> None:
        """Have another listener go on with a port. Clients stay; those in the kernel's
        queue are the other listener's.

        @param description: the server endpoint string of the port here.
        @param as_its: that which the other one has for it.
        """
        port = next(port for each, port in self._open if each == description)
        self._open.remove((description, port))
        self.front.forgets(port)
        other.front.takes(port, other._factory(as_its))
        other._open.append((as_its, port))

    def close(self, ports: Sequence[IListeningPort]) -> None:
        """Close some ports, on which nobody was served yet. Clients in their queues are left to
        another process that may have the socket, too."""
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
        factory = self._factory(description)
        listened = endpoint.listen(factory).addCallbacks(
            self._listens, failures.append, callbackArgs=(description, factory)
        )
        for failure in failures:
            raise CannotListen(why_not_listening(description, failure)) from None
        listened.addCallback(_report_late, description, failures)

    def _factory(self, description: str) -> Any:
        behind_balancers = description.startswith(BEHIND_BALANCERS)
        return self.front.behind_balancers() if behind_balancers else self.front

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
    return host_and_port(host, address.port)
