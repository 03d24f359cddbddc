"""C{twistd kolus}: its command-line options, and the service made from them."""

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
from kolus.daemon.front_service import BEHIND_BALANCERS, FrontService
from kolus.daemon.steady_time import use_steady_time
from kolus.health import Ejection
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.sources import (
    HostResolver,
    StaticSource,
    name_server_from_string,
    source_from_string,
)
from kolus.tunnel import End, Front, Loop, in_place_of

__all__ = ["Options", "makeService"]

_IDENT = "twistd kolus"
_POLICY = Policy()
_EJECT_AFTER = Ejection().failures
_GRACE = 30.0
_BALANCER = "pick_two"
_BACKLOG = 1024


class Options(usage.Options):
    """The command line of C{twistd kolus}.

    After parsing, C{self["backend"]} is a list of C{Backend}, C{self["listen"]} a list of pairs
    (server endpoint string, endpoint), C{self["source"]} a pair (string, C{ISource}) or C{None},
    C{self["name-server"]} a list of pairs (address, port). Numbers are C{int} or C{float}.
    """

    synopsis = "{--backend ENDPOINT ... | --source SOURCE} --listen ENDPOINT [options]"
    longdesc = (
        "Accepts TCP clients and gives each its own connection to one of the backends, until the "
        "client ends. Clients beyond the limit wait in a queue. For example: "
        "--backend tcp:10.0.0.7:6379 --backend tcp:10.0.0.8:6379 "
        "--listen tcp:6380:interface=127.0.0.1. If the backends change over time, use a source: it "
        "follows a DNS name, or a file that ends in .toml or .json. Clients wait until it has "
        "given its first list."
    )
    optParameters = [  # noqa: RUF012 (usage.Options declares it so)
        ["limit", None, None, f"Most connections to each backend. [default: {_POLICY.limit}]"],
        [
            "balance",
            None,
            None,
            f"Chooses the backend: {', '.join(sorted(NAMES))}. [default: {_BALANCER}]",
        ],
        [
            "connect-ahead",
            None,
            None,
            "Idle connections to keep ready at each backend, as far as the limit allows. Do not "
            "use it for a protocol in which the backend speaks first. [default: 0]",
        ],
        [
            "eject-after",
            None,
            None,
            "Failures in a row after which a backend is ejected: it is not chosen for a while; "
            f"0: never. [default: {_EJECT_AFTER}]",
        ],
        [
            "wait",
            None,
            None,
            "Seconds that a client may wait for a connection. After that it is closed. "
            f"[default: {_POLICY.acquire_timeout:g}]",
        ],
        [
            "max-waiters",
            None,
            None,
            "Clients that may wait for each backend; 0: none. [default: any number]",
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
            "Show for so many seconds how clients lease connections to three backends inside "
            "this process, of which one dies and one becomes slow; then stop. Takes no other "
            "option.",
        ],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["backend"] = []
        self["source"] = None
        self["name-server"] = []
        self["listen"] = []

    def opt_backend(self, endpoint: str) -> None:
        """A backend, as a client endpoint string; one option for each backend; or see --source."""
        try:
            backend = Backend(endpoint)
        except ValueError as error:
            raise usage.UsageError(f"--backend: {error}") from error
        if backend in self["backend"]:
            raise usage.UsageError(f"--backend {endpoint} is given twice; leave one out")
        self["backend"].append(backend)

    def opt_source(self, source: str) -> None:
        """Lists the backends: dns:NAME:PORT, srv:_X._tcp.NAME, file:PATH; not with --backend."""
        if self["source"] is not None:
            raise usage.UsageError(
                f"--source is given twice, as {self['source']!r} and {source!r}: expected one "
                "source, which lists all backends"
            )
        self["source"] = source

    def opt_name_server(self, server: str) -> None:
        """Resolves names: ADDRESS[:PORT]; may be given again. [default: the machine's]"""
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
                f"unexpected argument {extra[0]!r}: use options, for example "
                "--backend tcp:127.0.0.1:6379"
            )

    def postOptions(self) -> None:
        from twisted.internet import reactor

        use_steady_time(reactor)  # before anything is made that looks at the time
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
                    f"--demo has its own backends and clients: leave out --{name}"
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
                "no --backend and no --source: say where to connect to, for example --backend "
                "tcp:127.0.0.1:6379 or --source file:backends.toml, or see a demo: --demo 10"
            )
        if not self["listen"]:
            raise usage.UsageError(
                "no --listen: say where clients connect, as --listen tcp:6380:interface=127.0.0.1"
            )

    def _check_balance(self) -> None:
        if self["balance"] is None:
            self["balance"] = _BALANCER
        if self["balance"] not in NAMES:
            raise usage.UsageError(
                f"--balance must be one of {', '.join(sorted(NAMES))}, not {self['balance']!r}"
            )

    # Sources and plugin endpoints need a reactor. twistd chooses it before it parses these options.

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
    """Make the service from parsed options."""
    from twisted.internet import reactor

    if options["demo"] is not None:
        stop, on_terminal = partial(_stop, reactor), _is_terminal()
        return Demo(reactor, options["demo"], stop, _print, on_terminal=on_terminal)
    failures = options["eject-after"]
    policy = Policy(
        limit=options["limit"],
        max_waiters=options["max-waiters"],
        min_idle=options["connect-ahead"],
        acquire_timeout=options["wait"],
        connect_timeout=options["connect-timeout"],
        ejection=Ejection(failures) if failures else None,
        leak_after=None,  # a session may last as long as its client likes
        balancer=NAMES[options["balance"]](reactor),
    )
    loop = Loop(reactor)
    pool = Pool(
        reactor,
        End,
        policy=policy,
        make_endpoint=lambda _, backend: in_place_of(loop, backend.connector(reactor)),
    )
    servers = options["name-server"]
    if servers:  # for host names of backends too, such as those in SRV records
        its: Any = reactor
        its.installNameResolver(HostResolver(its, servers, its.nameResolver))
    name, source = options["source"] or (None, StaticSource(options["backend"]))
    if options["connect-ahead"]:
        source = AheadSource(source, pool, _IDENT)
    service = FrontService(
        Front(reactor, lambda ident: service.connect(ident), ident=_IDENT, loop=loop),
        pool,
        options["listen"],
        make_group=partial(pool.group, source, name=name),
        grace=options["grace"],
    )
    return service


def _listening_endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """Make a server endpoint whose backlog is long enough for many clients at once.

    With Twisted's default of 50 a kernel resets some of 200 clients.
    """
    description = description.removeprefix(BEHIND_BALANCERS)  # the front reads the headers itself
    kind = description.partition(":")[0]
    made: Any = None
    if kind in ("tcp", "tcp6", "ssl", "unix") and ":backlog=" not in description:
        with suppress(Exception):  # parsing without the backlog gives a better error
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
    """Accept clients that offer protocols by ALPN, and choose none.

    Twisted would end the handshake if no offered protocol matches.
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
    # twistd redirects sys.stdout to its log.
    print(text, file=sys.__stdout__, flush=True)


def _is_terminal() -> bool:
    """Whether what C{_print} prints is seen on a terminal that has colours and a cursor."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") in (None, "", "dumb")
    return not plain and sys.__stdout__ is not None and sys.__stdout__.isatty()


def _stop(reactor: Any, succeeded: bool) -> None:
    if not succeeded:
        # twistd cannot be told an exit status. This runs after it has cleaned up.
        atexit.register(_exit_failed)
    reactor.stop()


def _exit_failed() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
