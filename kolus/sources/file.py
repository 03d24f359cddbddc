"""C{FileSource}: takes the backends from a file, and reads it again when it changes.

Its state: the subscription; the watch of the folders; two delayed calls, for the next poll and for
reading a changed file; the file's fingerprint at the last reading; the endpoint arguments that
passed the check at the last reading; and the last warning about the file. C{_look} finds a change,
C{_read} handles it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from kolus.interfaces import ISource
from kolus.sources.entries import READERS, BadEntry, read_backends
from kolus.sources.folders import FolderWatch
from kolus.sources.subscription import Listener, Subscription
from kolus.support import check_duration, steady

if TYPE_CHECKING:
    from kolus.backend import Backend

__all__ = ["FileSource", "check_file"]

_log = Logger()

_SETTLE_TIME = 0.05
"""Seconds that a changed file must stay the same before it is read: a program may write it in
several steps."""

_HOST = re.compile(r"^(\w+:)(?:\\.|[^:\\])*")
"""An endpoint's kind and first argument, which may contain quoted colons: C{tls:\\:\\:1:443}."""

_Fingerprint = tuple[int, ...] | None
"""Identifies one state of a file; C{None} if there is no file."""


@implementer(ISource)
class FileSource:
    """Follows a TOML file of C{[[backend]]} tables, or a JSON file C{{"backend": [{...}]}}.

    An entry has an C{endpoint}, or a C{host} and a C{port}. It may have a C{name}, C{limit},
    C{weight} and C{zone}, as a C{Backend} has. If the file is missing or invalid, the last good
    list stays, and the log names the error and its line. A changed file is read when it has stayed
    the same for 0.05 s. Reading blocks the reactor, so the file should be on a local disk.
    """

    def __init__(self, reactor: Any, path: str | os.PathLike[str], *, poll: float = 2.0) -> None:
        """
        @param reactor: if it can read descriptors, inotify reports changes at once. With a plain
            clock only polling finds them, and the arguments of C{tls} and plugin endpoints are not
            checked.
        @param path: the file. Its suffix, C{.toml} or C{.json}, names the format. A relative path
            starts at the current folder of now.
        @param poll: seconds between two looks at the file. Polling goes on with inotify, which
            misses some changes: a parent folder that is replaced, and all on some file systems.
        @raise ValueError: the suffix is another, or C{poll} is not above 0.
        """
        self.path = os.path.abspath(os.fspath(path))
        self._suffix = os.path.splitext(self.path)[1].lower()
        if self._suffix not in READERS:
            raise ValueError(f"a file of backends ends in .toml or .json, not {str(path)!r}")
        check_duration("poll", poll)
        self._reactor = reactor
        self._clock = steady(reactor)
        self._poll = poll
        self._subscription = Subscription()
        self._watch = FolderWatch(reactor, self._look)
        self._next_look: IDelayedCall | None = None
        self._reading: IDelayedCall | None = None
        self._last_read: _Fingerprint = None
        self._checked: set[str] = set()
        self._last_warning: str | None = None

    def start(self, listener: Listener) -> None:
        self._subscription.open(listener)
        self._next_look = self._clock.callLater(self._poll, self._look_again)
        self._watch.follow(self.path)
        self._read(self._fingerprint())

    def stop(self) -> None:
        for call in (self._next_look, self._reading):
            if call is not None:
                call.cancel()
        self._next_look = self._reading = None
        self._last_warning = None
        self._watch.stop()
        self._subscription.close()

    def __repr__(self) -> str:
        return f"<FileSource {self.path}>"

    def _look_again(self) -> None:
        self._next_look = self._clock.callLater(self._poll, self._look_again)
        self._look()

    def _look(self) -> None:
        """If the file has changed, read it when it has stayed the same for a while."""
        seen = self._fingerprint()
        if self._reading is None and seen != self._last_read:
            self._reading = self._clock.callLater(_SETTLE_TIME, self._settled, seen)

    def _settled(self, before: _Fingerprint) -> None:
        """Read the file if it has not changed since; otherwise wait once more."""
        self._reading = None
        self._watch.follow(self.path)
        seen = self._fingerprint()
        if seen == before:
            self._read(seen)
        else:
            self._reading = self._clock.callLater(_SETTLE_TIME, self._settled, seen)

    def _fingerprint(self) -> _Fingerprint:
        # st_ctime_ns finds what st_mtime_ns misses: a file replaced by one of the same size and
        # modification time, and a file that became readable.
        try:
            seen = os.stat(self.path)
        except OSError:
            return None
        return (seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino, seen.st_dev)

    def _read(self, seen: _Fingerprint) -> None:
        """
        @param seen: the fingerprint, taken before the reading. So a change during the reading is
            found by the next look.
        """
        self._last_read = seen
        check = partial(self._check, self._checked)
        self._checked = set()  # what is no longer in the file is not kept
        try:
            backends = read_backends(_content(self.path), self._suffix, check)
        except BadEntry as error:
            self._warn_once(_located(self.path, error))
        except OSError as error:
            self._last_read = None  # try again at the next look: descriptors may be short
            self._warn_once(f"{self.path} cannot be read: {error.strerror or error}")
        else:
            if self._last_warning is not None:
                self._last_warning = None
                _log.info("{path} is usable again", path=self.path)
            self._tell(backends)

    def _check(self, checked: set[str], backend: Backend) -> None:
        # A check takes a millisecond for anything but plain TCP, and a plugin hardly ever refuses
        # a host. So of endpoints that differ only in the host, one is checked.
        arguments = _HOST.sub(r"\1", str(backend.endpoint), count=1)
        if arguments not in checked and arguments not in self._checked:
            backend.check(self._reactor)
        self._checked.add(arguments)

    def _tell(self, backends: Sequence[Backend]) -> None:
        try:
            self._subscription.tell(backends)
        except Exception:
            self._last_read = None  # read and deliver it again at the next look
            _log.failure("the listener raised")

    def _warn_once(self, warning: str) -> None:
        if warning == self._last_warning:
            return
        self._last_warning = warning
        _log.warn("{warning}; {kept}", warning=warning, kept=self._subscription.what_stays)


def check_file(path: str) -> None:
    """Check that a file can be read, and lists backends. A C{FileSource} would only log it.

    @raise ValueError: it says what is wrong, and in which line.
    """
    suffix = os.path.splitext(path)[1].lower()
    try:
        read_backends(_content(path), suffix)
    except BadEntry as error:
        raise ValueError(_located(path, error)) from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error


def _located(path: str, error: BadEntry) -> str:
    where = path if error.line is None else f"{path}, line {error.line}"
    return f"{where}: {error}"


def _content(path: str) -> bytes:
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is no regular file")
        return file.read()


def _open_at_once(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a pipe that has no writer blocks.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
