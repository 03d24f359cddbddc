"""C{FolderWatch}: reports changes in the folder of a file at once, by inotify.

Its state is the notifier, the folders that it watches, and whether it has warned that there is no
inotify. C{follow} and C{stop} change it. Deleting a watched folder ends the notifier too.
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
"""Folders by path, each with its device and inode."""


class FolderWatch:
    """Watches the folder of a file and, behind symbolic links, the folder of the real file.

    It watches folders because editors and Kubernetes replace a file: a watch on the file would
    follow the removed one. The caller must also poll, for what inotify misses: a parent folder
    that is replaced, a link in the middle of a chain, a file system without notifications. Without
    inotify, or if the reactor cannot read descriptors, it watches nothing.
    """

    def __init__(self, reactor: Any, changed: Callable[[], object]) -> None:
        """
        @param changed: called after every change in the folders, also of other files.
        """
        self._reactor = reactor
        self._changed = changed
        self._notifier: Any = None
        self._folders: _Folders = {}
        self._has_warned = False

    def follow(self, path: str) -> None:
        """Watch the folders in which the file is now. Call it again when they may be others."""
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
        except Exception as error:  # no inotify, or too many watches
            self.stop()
            if not self._has_warned:
                self._has_warned = True
                _log.warn(
                    "changes of {path} are found by polling alone: inotify failed ({error})",
                    path=path,
                    error=describe(error),
                )

    def stop(self) -> None:
        """Stop watching."""
        notifier, self._notifier, self._folders = self._notifier, None, {}
        if notifier is not None:
            # loseConnection does the same, but leaves a delayed call in the reactor for a while.
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
                self._notifier = None  # Twisted closes it
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
