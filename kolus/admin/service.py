"""C{AdminService}: listens for operators while the daemon runs.

Its state is the listening ports, from start to stop, and what observes the daemon: the measures,
the event log, and the streams of events.
"""

from __future__ import annotations

from secrets import token_hex
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from kolus.admin.admin_endpoint import MakeEndpoint, admin_endpoint
from kolus.admin.call import Answer, Call, answer
from kolus.admin.changing import Changing
from kolus.admin.event_log import EventLog
from kolus.admin.finder import Finder
from kolus.admin.guard import Guard, is_for_all
from kolus.admin.measures import Measures
from kolus.admin.openapi import description
from kolus.admin.page_files import page_routes
from kolus.admin.problem import Problem
from kolus.admin.reading import Reading
from kolus.admin.resource import EVENTS, AdminResource
from kolus.admin.routes import Route, Routes
from kolus.admin.running import Running
from kolus.admin.snapshot import Snapshot
from kolus.admin.stream import Streams
from kolus.admin.web import AdminSite
from kolus.config import AdminSettings
from kolus.support import CannotListen, host_and_port, time_of_day, why_not_listening

__all__ = ["AdminService"]

_log = Logger()
_LOOK_EVERY = 1.0


class AdminService(Service):
    """The admin server.

    @ivar endpoints: where it listens.
    @ivar ports: the listening ports.
    @ivar routes: the calls that it serves.
    @ivar streams: the clients that follow the events.
    """

    def __init__(
        self, reactor: Any, running: Running, settings: AdminSettings, make_endpoint: MakeEndpoint
    ) -> None:
        """
        @param make_endpoint: makes the endpoint of a server endpoint string; raises C{ValueError}.
        @raise ValueError: an address cannot be listened on, or not safely.
        """
        self._settings = settings
        self.endpoints = [
            admin_endpoint(make_endpoint, each, settings.allow_remote) for each in settings.listen
        ]
        self._reactor = reactor
        self._event_log = EventLog(reactor.seconds)
        self._measures = Measures(running, self._event_log.heard)
        run = token_hex(6)
        self._finder = finder = Finder(running)
        snapshot = Snapshot(finder, self._measures, run, time_of_day())
        self.streams = Streams(reactor, self._event_log, snapshot.everything, run)
        self.routes = Routes(
            [
                *Reading(finder, snapshot).routes(),
                *self._own(),
                *page_routes(),
                *Changing(finder, snapshot).routes(),
            ]
        )
        self._looks = LoopingCall(self._measures.look)
        self._looks.clock = reactor
        self.ports: list[IListeningPort] = []

    def _own(self) -> list[Route]:
        return [
            Route(
                "/api/v1/events",
                "Snapshots, one each second, and events as they come (server-sent events).",
                lambda call: Answer((), EVENTS),
                EVENTS,
            ),
            Route(
                "/metrics",
                "The metrics for Prometheus.",
                lambda call: self.scrape(call.accept),
                "text/plain",
            ),
            Route(
                "/api/v1/openapi.json",
                "This description.",
                self._describe,
                {"type": "object"},
            ),
        ]

    def scrape(self, accept: str) -> Answer:
        """The metrics, in a format that C{accept} allows.

        @raise Problem: the library is missing.
        """
        try:
            from kolus.admin.listener_families import scrape
        except ImportError:
            raise Problem(501, "metrics need pip install 'kolus[prometheus]'") from None
        pieces, content_type = scrape(self._finder, self._measures, accept)
        return Answer(pieces, content_type)

    def _describe(self, call: Call) -> Answer:
        return answer(description(self.routes.all))

    def privilegedStartService(self) -> None:
        """Listen.

        @raise CannotListen: listening failed on one of the addresses.
        """
        path = self._settings.token_file
        if path is not None and is_for_all(path):
            _log.warn("every user can read token_file {path}: chmod 600 {path}", path=path)
        for its in self.endpoints:
            guard = Guard(
                is_private=its.is_private,
                hosts=self._settings.hosts,
                token_file=path,
            )
            site = AdminSite(
                self._reactor,
                AdminResource(self.routes, guard, self.streams),
            )
            failures: list[Any] = []
            its.endpoint.listen(site).addCallbacks(self.ports.append, failures.append)
            for failure in failures:
                raise CannotListen(f"admin: {why_not_listening(its.text, failure)}")
            _log.info(
                "kolus admin listens on {address}", address=_address_of(self.ports[-1], its.text)
            )

    def startService(self) -> None:
        """Listen, unless C{privilegedStartService} did so already, and observe the daemon.

        @raise CannotListen: listening failed on one of the addresses.
        """
        if not self.ports:
            self.privilegedStartService()
        super().startService()  # type: ignore[no-untyped-call]
        self._looks.start(_LOOK_EVERY)

    def stopService(self) -> Deferred[Any]:
        """Stop listening, and end the streams.

        @return: fires when nothing is listened on.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._looks.running:
            self._looks.stop()
        self.streams.stop()
        ports, self.ports = self.ports, []
        stopped = [each.stopListening() for each in ports]
        return gatherResults([each for each in stopped if each is not None])


def _address_of(port: IListeningPort, text: str) -> str:
    address: Any = port.getHost()
    host = getattr(address, "host", None)
    return text if host is None else host_and_port(host, address.port)
