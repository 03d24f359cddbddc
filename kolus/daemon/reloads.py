"""C{Reloads}: reads the configuration again while clients are served, and has the daemon go on.

Its state is whether the daemon can change, the reading that is under way, and who is to be told of
that and of the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from kolus.config import Config, ConfigError
from kolus.support import CannotListen, LongWork, Work

__all__ = ["Reloads"]

_log = Logger()

_FIXED = ("name_servers", "admin", "takeover")
"""The keys that a reload cannot change."""


class Changes(Protocol):
    """What goes on with another configuration: the daemon.

    @ivar config: what it has now.
    """

    config: Config

    def change(self, config: Config) -> None:
        """
        @raise CannotListen: nothing is changed.
        @raise ValueError: nothing is changed.
        """


class Reloads:
    """Makes reloads, one at a time.

    The file is read and checked in pieces, between which clients are served as before. When all of
    it is found right, all is changed in one turn of the reactor: no client sees a part of it.
    """

    def __init__(self, clock: Any, load: Callable[[], Work[Config]], its: Changes) -> None:
        self._long_work = LongWork(clock)
        self._load = load
        self._its = its
        self._is_open = False
        self._reading: Deferred[Any] | None = None
        self._told: list[Deferred[bool]] = []
        self._told_next: list[Deferred[bool]] = []

    def begin(self) -> None:
        """The daemon runs: it can change from now on."""
        self._is_open = True

    def ask(self) -> Deferred[bool]:
        """Reload. If a reload is under way, its file may be older than this call, so another one
        begins after it: one for all calls that come meanwhile.

        @return: fires with whether the daemon goes on with what was read. Otherwise all is as
            before, and the log says why.
        """
        if not self._is_open:
            _log.warn("nothing is read again: the daemon does not run yet, or is ending")
            return succeed(False)
        asked: Deferred[bool] = Deferred()
        self._told_next.append(asked)
        if self._reading is None:
            self._read()
        return asked

    def stop(self) -> None:
        """The daemon ends, or another process serves: end what is under way, and change nothing any
        more."""
        self._is_open = False
        told, self._told_next = self._told_next, []
        if self._reading is not None:
            self._reading.cancel()
        for each in told:
            each.callback(False)

    def _read(self) -> None:
        self._told, self._told_next = self._told_next, []
        self._reading = reading = self._long_work.do(self._load())
        reading.addCallback(self._go_on).addErrback(_tell_why_not).addCallback(self._end)

    def _go_on(self, config: Config) -> bool:
        for key in _FIXED:
            now = getattr(self._its.config, key)
            if getattr(config, key) != now:
                _log.warn("{key} stays as it was: it needs a restart", key=key)
                config = replace(config, **{key: now})
        self._its.change(config)
        _log.info("the configuration is reloaded")
        return True

    def _end(self, is_done: bool) -> None:
        self._reading, told = None, self._told
        if self._told_next:
            self._read()
        for each in told:
            each.callback(is_done)


def _tell_why_not(failure: Failure) -> bool:
    error = failure.value
    if isinstance(error, ConfigError):
        text = "\n".join(error.lines)
        _log.error("the configuration stays as it was, as the new one is wrong:\n{text}", text=text)
    elif isinstance(error, CannotListen | ValueError):
        _log.error("the configuration stays as it was: {error}", error=error)
    elif not isinstance(error, CancelledError):
        _log.failure("reading the configuration again failed", failure)
    return False
