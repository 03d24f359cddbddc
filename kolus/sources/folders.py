"""C{FolderWatch}: hears at once, by inotify, when something happens where a file lies.

Its state is the notifier and the folders that this one watches. C{follow} and C{stop} change it,
and so does the end of a folder, which ends the notifier too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorFDSet
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.filepath import FilePath

from kolus.errors import describe

__all__ = ["FolderWatch"]

_log = Logger()

_Folders = dict[str, tuple[int, int]]
"""Folders by their paths, with their devices and inodes."""


class FolderWatch:
    """Watches the folder that a file is in, and the one that it is in behind symbolic links.

    Folders, since editors and Kubernetes replace a file, whose own watch would then follow the one
    that is gone. What it cannot see, the caller's polling must: a folder above that is replaced, a
    link in the middle of a chain, a file system that tells nothing. Where there is no inotify, or
    the reactor cannot read descriptors, it watches nothing.
    """

    def __init__(self, reactor: Any, changed: Callable[[], object]) -> None:
        """
        @param changed: called for each thing that happens in the folders, to whichever file.
        """
        self._reactor = reactor
        self._changed = changed
        self._notifier: Any = None
        self._folders: _Folders = {}
        self._complained = False

    def follow(self, path: str) -> None:
        """Watch where that file is now; to be called again when it may have moved."""
        if not IReactorFDSet.providedBy(self._reactor):
            return
        folders = _folders_of(path)
        if self._notifier is not None and folders == self._folders:
            return
        self.stop()
        if not folders:
            return
        try:
            self._watch(folders)
        except Exception as error:  # no inotify, or too many in use
            self.stop()
            if not self._complained:
                self._complained = True
                _log.warn(
                    "{path} is polled: inotify cannot be used ({error})",
                    path=path,
                    error=describe(error),
                )

    def stop(self) -> None:
        """Watch nothing any more."""
        notifier, self._notifier, self._folders = self._notifier, None, {}
        if notifier is not None:
            # Its loseConnection would do the same, but leave a delayed call until then.
            notifier.connectionLost(Failure(ConnectionDone()))

    def _watch(self, folders: _Folders) -> None:
        from twisted.internet import inotify

        self._notifier = notifier = inotify.INotify(self._reactor)
        self._folders = folders
        mask = inotify.IN_WATCH_MASK | inotify.IN_CLOSE_WRITE

        def notify(ignored: object, path: object, what: int) -> None:
            if notifier is not self._notifier:
                return
            if what & inotify.IN_DELETE_SELF:
                self._notifier = None  # it closes itself
            self._changed()

        for folder in folders:
            notifier.watch(FilePath(folder), mask=mask, callbacks=[notify])
        notifier.startReading()


def _folders_of(path: str) -> _Folders:
    found: _Folders = {}
    for folder in (os.path.dirname(path), os.path.dirname(os.path.realpath(path))):
        try:
            status = os.stat(folder)
        except OSError:
            continue  # it may come back: the caller polls
        identity = (status.st_dev, status.st_ino)
        if identity not in found.values():
            found[folder] = identity
    return found
