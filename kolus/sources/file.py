"""C{FileSource}: the backends that a file lists, read again when it changes.

Its state: the audience; the watch of the folders; the delayed calls, of the next look at the file
and of the reading of one that has changed; what the file looked like when it was last read; the
arguments of its endpoints that are known to be good; and the last complaint about the file.
C{_look} finds a change, C{_read} acts on it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from functools import partial
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from kolus.backend import Backend
from kolus.interfaces import ISource
from kolus.sources.audience import Audience, Listener
from kolus.sources.entries import READERS, BadEntry, read_backends
from kolus.sources.folders import FolderWatch
from kolus.support import is_duration

__all__ = ["FileSource"]

_log = Logger()

_SETTLE = 0.05
"""Seconds that a file must stay the same before it is read: writing it may take several steps, and
several changes may come together."""

_HOST = re.compile(r"^(\w+:)(?:\\.|[^:\\])*")
"""The kind of an endpoint and its first argument; C{tls:\\:\\:1:443} has one with colons in it."""

_Looks = tuple[int, ...] | None
"""What tells one state of a file from another; C{None} if there is none."""


@implementer(ISource)
class FileSource:
    """Follows a TOML file of C{[[backend]]} tables, or a JSON file C{{"backend": [{...}]}}.

    An entry has an C{endpoint}, or a C{host} and a C{port}, and may have a C{name}, C{limit},
    C{weight} and C{zone}, as a C{Backend} has. A file that is missing or wrong changes nothing: the
    log says what is wrong with it, with the line, and the last good list stays. Another list in the
    same file is told once it has stayed as it is for 0.05 s. The file is read as the reactor runs:
    it should be on a disk that answers.
    """

    def __init__(self, reactor: Any, path: str | os.PathLike[str], *, poll: float = 2.0) -> None:
        """
        @param reactor: where changes are heard of at once, by inotify, if it can read descriptors;
            with a clock they are found by polling alone, and the arguments of C{tls} endpoints and
            other plugins' are not checked.
        @param path: of the file; its suffix, C{.toml} or C{.json}, says how to read it. A relative
            one is from the folder that is the current one now.
        @param poll: seconds between two looks at the file. With inotify too, which does not hear of
            everything: not of a folder above that is replaced, nor on every file system.
        @raise ValueError: another suffix, or C{poll} is no time above 0.
        """
        self.path = os.path.abspath(os.fspath(path))
        self._suffix = os.path.splitext(self.path)[1].lower()
        if self._suffix not in READERS:
            raise ValueError(f"a file of backends ends in .toml or .json, not {str(path)!r}")
        if not is_duration(poll):
            raise ValueError(f"poll must be a number of seconds above 0, not {poll!r}")
        self._clock = reactor
        self._poll = poll
        self._audience = Audience()
        self._watch = FolderWatch(reactor, self._look)
        self._next_look: IDelayedCall | None = None
        self._reading: IDelayedCall | None = None
        self._read_as: _Looks = None
        self._sound: set[str] = set()
        self._complaint: str | None = None

    def start(self, listener: Listener) -> None:
        self._audience.open(listener)
        self._next_look = self._clock.callLater(self._poll, self._look_again)
        self._watch.follow(self.path)
        self._read(self._looks())

    def stop(self) -> None:
        for call in (self._next_look, self._reading):
            if call is not None:
                call.cancel()
        self._next_look = self._reading = None
        self._complaint = None
        self._watch.stop()
        self._audience.close()

    def __repr__(self) -> str:
        return f"<FileSource {self.path}>"

    def _look_again(self) -> None:
        self._next_look = self._clock.callLater(self._poll, self._look_again)
        self._look()

    def _look(self) -> None:
        """See whether the file has changed; if so, read it when it has settled."""
        looks = self._looks()
        if self._reading is None and looks != self._read_as:
            self._reading = self._clock.callLater(_SETTLE, self._settled, looks)

    def _settled(self, before: _Looks) -> None:
        """Read the file if it still looks as it did; else give it as much time again."""
        self._reading = None
        self._watch.follow(self.path)
        looks = self._looks()
        if looks == before:
            self._read(looks)
        else:
            self._reading = self._clock.callLater(_SETTLE, self._settled, looks)

    def _looks(self) -> _Looks:
        # The time of the last change of the inode as well: files may be replaced by others of
        # the same size with their time of modification kept, and may become readable.
        try:
            seen = os.stat(self.path)
        except OSError:
            return None
        return (seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino, seen.st_dev)

    def _read(self, looks: _Looks) -> None:
        """
        @param looks: what the file looked like just before: if it changes while it is read, it will
            look different.
        """
        self._read_as = looks
        check = partial(self._check, self._sound)
        self._sound = set()  # those that the file no longer has are not kept
        try:
            backends = read_backends(_content(self.path), self._suffix, check)
        except BadEntry as error:
            where = self.path if error.line is None else f"{self.path}, line {error.line}"
            self._complain(f"{where}: {error}")
        except OSError as error:
            self._read_as = None  # a file that is there is tried again: descriptors may be short
            self._complain(f"{self.path} cannot be read: {error.strerror or error}")
        else:
            if self._complaint is not None:
                self._complaint = None
                _log.info("{path} can be used again", path=self.path)
            self._tell(backends)

    def _check(self, sound: set[str], backend: Backend) -> None:
        # It takes a millisecond for each that is not plain TCP, and what a plugin refuses is
        # hardly ever the host: of those that differ in that alone one is checked.
        arguments = _HOST.sub(r"\1", str(backend.endpoint), count=1)
        if arguments not in sound and arguments not in self._sound:
            backend.check(self._clock)
        self._sound.add(arguments)

    def _tell(self, backends: Sequence[Backend]) -> None:
        try:
            self._audience.tell(backends)
        except Exception:
            self._read_as = None  # so that it is read and told again at the next look
            _log.failure("telling the backends failed")

    def _complain(self, complaint: str) -> None:
        if complaint == self._complaint:
            return
        self._complaint = complaint
        _log.warn(
            "{complaint}; {kept}",
            complaint=complaint,
            kept="the last good list stays" if self._audience.has_heard else "there is no list yet",
        )


def _content(path: str) -> bytes:
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is no regular file")
        return file.read()


def _open_at_once(path: str, flags: int) -> int:
    # A pipe without a writer would be waited for.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
