"""C{twistd kolus}: its command-line options, and the service made from them."""

from __future__ import annotations

import atexit
import math
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    textFileLogObserver,
)
from twisted.python import usage

from kolus.config import (
    FLAGS,
    Config,
    ConfigError,
    Flag,
    config_from_flags,
    read_config,
)
from kolus.daemon.collector import calm_collector
from kolus.daemon.daemon import make_daemon
from kolus.daemon.listening.handover import Handover
from kolus.daemon.listening.inheritance import inherit
from kolus.daemon.listening.listen_endpoint import listen_endpoint, promised_endpoint
from kolus.daemon.log_output import LogOutput
from kolus.daemon.meant import what_was_meant
from kolus.daemon.notify import Notifier
from kolus.daemon.preflight import preflight
from kolus.daemon.signals import Signals, let_signals_come
from kolus.daemon.steady_time import use_steady_time
from kolus.support import CannotListen, Work, at_once

__all__ = ["Options", "makeService"]

_log = Logger()


class Options(usage.Options):
    """The command line of C{twistd kolus}.

    @ivar config: the configuration, after parsing; C{None} for the demo.
    @ivar given: the flags of the configuration and their texts, in order.
    @ivar signals: handles the signals of this process, after parsing.
    """

    synopsis = (
        "{--backend ENDPOINT ... | --source SOURCE} --listen ENDPOINT [options]\n"
        "or: twistd [options] kolus --config FILE.toml [--check-config]"
    )
    longdesc = (
        "Accepts TCP clients and gives each its own connection to one of the backends, until the "
        "client ends. Clients beyond the limit wait in a queue. For example: "
        "--backend tcp:10.0.0.7:6379 --backend tcp:10.0.0.8:6379 "
        "--listen tcp:6380:interface=127.0.0.1. If the backends change over time, use a source: it "
        "follows a DNS name, or a file that ends in .toml or .json. A file given as --config may "
        "have several listeners and groups; every option here is a key there. Times are in seconds."
    )
    optParameters = [  # noqa: RUF012 (usage.Options declares it so)
        [
            "demo",
            None,
            None,
            "Show for so many seconds how clients lease connections to three backends inside "
            "this process, of which one dies and one becomes slow; then stop. Takes no other "
            "option.",
        ],
    ]
    optFlags = [  # noqa: RUF012
        ["check-config", None, "Tell the mistakes of the configuration, and exit."]
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.given: list[tuple[str, str]] = []
        self.config: Config | None = None
        self["config"] = None

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the command line.

        @raise SystemExit: it has mistakes. They are on stderr, without the long help that twistd
            would put before them.
        """
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            for line in what_was_meant(str(error), self.parent).splitlines():
                print(f"twistd kolus: {line}", file=sys.stderr)
            raise SystemExit(1) from error

    def opt_config(self, file: str) -> None:
        """Take everything from this TOML file. Takes no other option."""
        if not file:
            raise usage.UsageError("--config must name a TOML file, not ''")
        if self["config"] is not None:
            raise usage.UsageError("--config is given twice: all has to be in one file")
        self["config"] = file

    def parseArgs(self, *extra: str) -> None:
        if extra:
            raise usage.UsageError(
                f"unexpected argument {extra[0]!r}: use options, for example "
                "--backend tcp:127.0.0.1:6379"
            )

    def postOptions(self) -> None:
        from twisted.internet import reactor

        use_steady_time(reactor)  # before anything is made that looks at the time
        for name, does in (("demo", "has its own backends and clients"), ("config", "has it all")):
            others = [each for each, _ in self.given] + ["config"] * (self["config"] is not None)
            if name == "demo":
                others += ["check-config"] * self["check-config"]
            if self[name] is not None and others and others != [name]:
                raise usage.UsageError(f"--{name} {does}: leave out --{others[0]}")
        if self["demo"] is not None:
            self["demo"] = _seconds(self["demo"])
            let_signals_come()
            return
        if self["config"] is not None:  # a daemon may go to another folder
            self["config"] = os.path.abspath(self["config"])
        try:
            self.config = at_once(self.load())
        except ConfigError as error:
            raise usage.UsageError("\n".join(error.lines)) from error
        if self["check-config"]:
            _print("the configuration has no mistake")
            raise SystemExit(0)
        self.signals = Signals(reactor)
        self.signals.install()
        self._log_without_waiting()

    def load(self) -> Work[Config]:
        """Read the configuration, now or again.

        @raise ConfigError: it has mistakes.
        """
        from twisted.internet import reactor

        listening = promised_endpoint if self["check-config"] else listen_endpoint
        check = partial(preflight, reactor, listening=listening)
        if self["config"] is None:
            return config_from_flags(self.given, check)
        return read_config(self["config"], check)

    def _log_without_waiting(self) -> None:
        """Have twistd or twist log to a C{LogOutput}, unless it was told how to log."""
        its: Any = self.parent
        if its is None:
            return
        if "logFile" in its:  # python -m twisted
            its["logFile"] = output = LogOutput(descriptor=its["logFile"].fileno())
        elif its["syslog"] or its["logger"]:
            return
        else:
            name = its["logfile"] or ("-" if its["nodaemon"] else "twistd.log")
            try:
                output = LogOutput(None if name == "-" else name)
            except OSError as error:
                raise usage.UsageError(
                    f"--logfile: cannot open {name}: {error.strerror}"
                ) from error
            its["logger"] = f"{__name__}.log_observer"  # twistd takes it by its name alone
        self.signals.reopen_log = output.reopen
        _outputs.append(output)


_outputs: list[LogOutput] = []


def log_observer() -> ILogObserver:
    """Make the observer of the log. Called by twistd."""
    file: Any = _outputs[-1]
    is_shown = LogLevelFilterPredicate(LogLevel.info)  # as python -m twisted has it
    return FilteringLogObserver(textFileLogObserver(file), [is_shown])


def _add_flag(flag: Flag) -> None:
    def take(self: Options, value: str) -> None:
        self.given.append((flag.name, value))

    take.__doc__ = flag.about
    setattr(Options, f"opt_{flag.name.replace('-', '_')}", take)


for _flag in FLAGS.values():
    _add_flag(_flag)


def makeService(options: Options) -> IService:
    """Make the service from parsed options."""
    from twisted.internet import reactor

    if options["demo"] is not None:
        from kolus.daemon.demo.demo import Demo

        stop, on_terminal = partial(_stop, reactor), _is_terminal()
        return Demo(reactor, options["demo"], stop, _print, on_terminal=on_terminal)
    assert options.config is not None, "the options were parsed"
    sys.excepthook = partial(_tell_shortly, _is_daemon(options))
    inheritance = inherit(options.config.takeover)
    make_endpoint = partial(inheritance.endpoint, reactor)
    daemon = make_daemon(reactor, options.config, options.load, make_endpoint)
    notifier = Notifier(reactor)
    notifier.begin()
    options.signals.reload = partial(notifier.reloading, daemon.reload)
    options.signals.tell_status = daemon.tell_status
    options.signals.end_at_once = daemon.abort
    calm_collector(reactor)
    service: Any = daemon
    if options.config.admin is not None:
        from kolus.daemon.steered import Steered  # with a web server: most of a tenth of a second

        service = Steered(reactor, daemon, options.config.admin, make_endpoint)
    if options.config.takeover is not None:
        handover = Handover(reactor, options.config.takeover, service, partial(_stop, reactor))
        its: Any = reactor
        its.addSystemEventTrigger("after", "startup", handover.begin, inheritance)
    return service  # type: ignore[no-any-return]


def _is_daemon(options: Options) -> bool:
    """Whether twistd goes to the background, where nobody sees stderr."""
    its: Any = options.parent
    return its is not None and not its.get("nodaemon", True)


def _tell_shortly(
    is_daemon: bool, kind: type[BaseException], error: BaseException, where: Any
) -> None:
    """In place of a traceback: an address that cannot be listened on is no bug."""
    if isinstance(error, CannotListen):
        # twistd redirects sys.stderr to its log.
        print(f"twistd kolus: {error}", file=sys.__stderr__, flush=True)
        if is_daemon:
            _log.critical("{error}", error=error)
    else:
        sys.__excepthook__(kind, error, where)


def _seconds(given: str) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise usage.UsageError(f"--demo must be a number of seconds above 0, not {given!r}")
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
