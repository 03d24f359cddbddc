"""C{twistd kolus}: its options, and the service that they describe."""

from __future__ import annotations

import atexit
import math
import os
import sys
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python import usage

from kolus.backend import Backend
from kolus.balance import NAMES
from kolus.daemon.ahead_source import AheadSource
from kolus.daemon.demo import Demo
from kolus.daemon.front_service import FrontService
from kolus.health import Ejection
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.sources import (
    HostResolver,
    StaticSource,
    name_server_from_string,
    source_from_string,
)
from kolus.tunnel import End, Front

__all__ = ["Options", "makeService"]

_IDENT = "twistd kolus"
_POLICY = Policy()
_EJECT_AFTER = Ejection().failures
_GRACE = 30.0
_BALANCER = "pick_two"
_BACKLOG = 1024


class Options(usage.Options):
    """The command line of C{twistd kolus}.

    After parsing, C{self["backend"]} is a list of C{Backend}, C{self["listen"]} one of server
    endpoint strings with their endpoints, C{self["source"]} a pair of a string and its C{ISource},
    or C{None}, C{self["name-server"]} a list of pairs of an address and a port, and every number is
    one.
    """

    synopsis = "{--backend ENDPOINT ... | --source SOURCE} --listen ENDPOINT [options]"
    longdesc = (
        "Accepts TCP clients and gives each a connection to one of the backends, for itself "
        "alone, from its first byte to its last. Clients beyond the limit wait in a queue. For "
        "example: --backend tcp:10.0.0.7:6379 --backend tcp:10.0.0.8:6379 "
        "--listen tcp:6380:interface=127.0.0.1. A source tells of backends that come and go: it "
        "follows a DNS name, or a file that ends in .toml or .json; clients wait for its first "
        "list."
    )
    optParameters = [  # noqa: RUF012 (usage.Options declares it so)
        ["limit", None, None, f"Most connections to each backend. [default: {_POLICY.limit}]"],
        [
            "balance",
            None,
            None,
            f"How a backend is chosen: {', '.join(sorted(NAMES))}. [default: {_BALANCER}]",
        ],
        [
            "connect-ahead",
            None,
            None,
            "Connections to each backend that are kept connected and ready, as far as the limit "
            "allows. Not for a protocol in which the backend speaks first. [default: 0]",
        ],
        [
            "eject-after",
            None,
            None,
            "Failures in a row after which a backend is not chosen for a while; 0: never. "
            f"[default: {_EJECT_AFTER}]",
        ],
        [
            "wait",
            None,
            None,
            "Seconds after which a client that has no connection yet is closed. "
            f"[default: {_POLICY.acquire_timeout:g}]",
        ],
        [
            "max-waiters",
            None,
            None,
            "Clients that may wait for each backend; 0: none. "
            "[default: 10 times the limit, at least 100]",
        ],
        [
            "connect-timeout",
            None,
            None,
            f"Seconds that connecting may take. [default: {_POLICY.connect_timeout:g}]",
        ],
        [
            "grace",
            None,
            None,
            "Seconds that clients have to finish after SIGTERM, before they are aborted. "
            f"[default: {_GRACE:g}]",
        ],
        [
            "demo",
            None,
            None,
            "Show for so many seconds how clients lease connections to three backends, all inside "
            "this process, and stop. Takes no other option.",
        ],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["backend"] = []
        self["source"] = None
        self["name-server"] = []
        self["listen"] = []

    def opt_backend(self, endpoint: str) -> None:
        """Where to connect: a client endpoint string; once for each backend; or see --source."""
        try:
            backend = Backend(endpoint)
        except ValueError as error:
            raise usage.UsageError(f"--backend: {error}") from error
        if backend in self["backend"]:
            raise usage.UsageError(f"--backend {endpoint} is given twice; leave one out")
        self["backend"].append(backend)

    def opt_source(self, source: str) -> None:
        """Tells the backends: dns:NAME:PORT, srv:_X._tcp.NAME or file:PATH; not with --backend."""
        if self["source"] is not None:
            raise usage.UsageError(
                f"--source is given twice, as {self['source']!r} and {source!r}: expected one "
                "source, which tells of all the backends"
            )
        self["source"] = source

    def opt_name_server(self, server: str) -> None:
        """Whom names are asked of: ADDRESS[:PORT]; may be given again. [default: the machine's]"""
        try:
            pair = name_server_from_string(server)
        except ValueError as error:
            raise usage.UsageError(f"--name-server: {error}") from error
        if pair in self["name-server"]:
            raise usage.UsageError(f"--name-server {server} is given twice; leave one out")
        self["name-server"].append(pair)

    def opt_listen(self, endpoint: str) -> None:
        """Where clients connect: a server endpoint string; may be given again. [required]"""
        self["listen"].append(endpoint)

    def parseArgs(self, *extra: str) -> None:
        if extra:
            raise usage.UsageError(
                f"unexpected argument {extra[0]!r}: everything is given by an option, a backend "
                f"for example as --backend tcp:127.0.0.1:6379"
            )

    def postOptions(self) -> None:
        if self["demo"] is not None:
            self._check_demo()
            return
        self._check_presence()
        self["limit"] = _whole(self, "limit", _POLICY.limit, 1)
        self["connect-ahead"] = _whole(self, "connect-ahead", 0, 0)
        self["max-waiters"] = _whole(self, "max-waiters", None, 0)
        self["eject-after"] = _whole(self, "eject-after", _EJECT_AFTER, 0)
        self["wait"] = _seconds(self, "wait", _POLICY.acquire_timeout)
        self["connect-timeout"] = _seconds(self, "connect-timeout", _POLICY.connect_timeout)
        self["grace"] = _seconds(self, "grace", _GRACE, zero=True)
        if self["connect-ahead"] > self["limit"]:
            raise usage.UsageError(
                f"--connect-ahead {self['connect-ahead']} is more than the limit of "
                f"{self['limit']}: raise --limit, or connect fewer ahead"
            )
        self._check_balance()
        self._check_source()
        self._check_endpoints()

    def _check_demo(self) -> None:
        for name, value in self.items():
            if name != "demo" and value not in (None, []):
                raise usage.UsageError(
                    f"--demo brings its own backends and clients: leave out --{name}"
                )
        self["demo"] = _seconds(self, "demo", None)

    def _check_presence(self) -> None:
        if self["source"] is not None and self["backend"]:
            raise usage.UsageError(
                "--source and --backend are both given: expected one source, or a --backend for "
                "each backend"
            )
        if self["source"] is None and not self["backend"]:
            raise usage.UsageError(
                "no --backend and no --source: say where to connect to, for example "
                "--backend tcp:127.0.0.1:6379 or --source file:backends.toml, or see how it works "
                "with --demo 10"
            )
        if not self["listen"]:
            raise usage.UsageError(
                "no --listen: say where clients connect, for example "
                "--listen tcp:6380:interface=127.0.0.1"
            )

    def _check_balance(self) -> None:
        if self["balance"] is None:
            self["balance"] = _BALANCER
        if self["balance"] not in NAMES:
            raise usage.UsageError(
                f"--balance {self['balance']!r} is unknown: choose one of "
                f"{', '.join(sorted(NAMES))}"
            )

    # Endpoints of plugins, and sources, cannot be made without a reactor. When a subcommand's
    # options are parsed, twistd has chosen it already.

    def _check_source(self) -> None:
        from twisted.internet import reactor

        if self["source"] is not None:
            try:
                source = source_from_string(reactor, self["source"], self["name-server"] or None)
            except ValueError as error:
                raise usage.UsageError(f"--source: {error}") from error
            self["source"] = (self["source"], source)

    def _check_endpoints(self) -> None:
        from twisted.internet import reactor

        for backend in self["backend"]:
            try:
                backend.connector(reactor)
            except ValueError as error:
                raise usage.UsageError(f"--backend: {error}") from error
        for place, description in enumerate(self["listen"]):
            try:
                endpoint = _listening_endpoint(reactor, description)
            except Exception as error:
                raise usage.UsageError(
                    f"--listen: not a server endpoint string: {description!r} ({error}); expected "
                    "for example tcp:6380:interface=127.0.0.1"
                ) from error
            port = getattr(endpoint, "_port", 0)
            if port and description in [each for each, _ in self["listen"][:place]]:
                raise usage.UsageError(f"--listen {description} is given twice; leave one out")
            self["listen"][place] = (description, endpoint)


def makeService(options: Options) -> IService:
    """The service that parsed options describe."""
    from twisted.internet import reactor

    if options["demo"] is not None:
        return Demo(reactor, options["demo"], partial(_stop, reactor), _print)
    failures = options["eject-after"]
    policy = Policy(
        limit=options["limit"],
        max_waiters=options["max-waiters"],
        min_idle=options["connect-ahead"],
        acquire_timeout=options["wait"],
        connect_timeout=options["connect-timeout"],
        ejection=Ejection(failures) if failures else None,
        balancer=NAMES[options["balance"]](reactor),
    )
    pool = Pool(reactor, End, policy=policy)
    servers = options["name-server"]
    if servers:  # for the hosts of backends, such as those that SRV records name
        its: Any = reactor
        its.installNameResolver(HostResolver(its, servers, its.nameResolver))
    name, source = options["source"] or (None, StaticSource(options["backend"]))
    if options["connect-ahead"]:
        source = AheadSource(source, pool, _IDENT)
    service = FrontService(
        Front(reactor, lambda: service.connect()),
        pool,
        options["listen"],
        ident=_IDENT,
        make_group=partial(pool.group, source, name=name),
        grace=options["grace"],
    )
    return service


def _listening_endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """The endpoint that a string describes, with room for many clients that come at once.

    Twisted's own 50 is so little that a kernel resets some of 200 clients.
    """
    kind = description.partition(":")[0]
    made: Any = None
    if kind in ("tcp", "tcp6", "ssl", "unix") and ":backlog=" not in description:
        with suppress(Exception):  # without it, parsing says better what is wrong
            made = serverFromString(reactor, f"{description}:backlog={_BACKLOG}")
    if made is None:
        made = serverFromString(reactor, description)
    if not 0 <= getattr(made, "_port", 0) < 65536:
        raise ValueError("its port is not from 0 to 65535")
    if kind == "ssl":
        _tolerate_alpn(made._sslContextFactory.getContext())
    listening: IStreamServerEndpoint = made
    return listening


def _tolerate_alpn(context: Any) -> None:
    """Let clients offer protocols by ALPN, of which a tunnel chooses none.

    Twisted would end the handshake where nothing that is offered matches.
    """
    from OpenSSL import SSL

    context.set_alpn_select_callback(lambda connection, offered: SSL.NO_OVERLAPPING_PROTOCOLS)


def _whole(options: Options, name: str, default: int | None, least: int) -> int | None:
    given = options[name]
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 10 and int(given) >= least):
        raise usage.UsageError(
            f"--{name} must be a whole number of at least {least}, not {given!r}"
        )
    return int(given)


def _seconds(
    options: Options, name: str, default: float | None, *, zero: bool = False
) -> float | None:
    given = options[name]
    if given is None:
        return default
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and (seconds > 0 or (zero and seconds == 0))):
        least = "at least 0" if zero else "above 0"
        raise usage.UsageError(f"--{name} must be a number of seconds {least}, not {given!r}")
    return seconds


def _print(text: str) -> None:
    # twistd makes what is written to sys.stdout lines of its log.
    print(text, file=sys.__stdout__, flush=True)


def _stop(reactor: Any, succeeded: bool) -> None:
    if not succeeded:
        # twistd has no exit status of its own to set; this comes after it has tidied up.
        atexit.register(_exit_failed)
    reactor.stop()


def _exit_failed() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
