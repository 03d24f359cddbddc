"""C{Finder}: finds a group, a backend or a listener of the daemon by its name."""

from __future__ import annotations

from collections.abc import Iterable

from kolus.admin.problem import Problem, unknown
from kolus.admin.running import Running, RunningGroup, RunningListener
from kolus.backend import Backend, labelled

__all__ = ["Finder"]


class Finder:
    """Looks into the running daemon, and names what is near if there is nothing of a name."""

    def __init__(self, running: Running) -> None:
        self.running = running

    def group(self, name: str) -> RunningGroup:
        """
        @raise Problem: there is no group of that name.
        """
        try:
            return self.running.groups[name]
        except KeyError:
            raise unknown("group", name, self.running.groups) from None

    def listener(self, name: str) -> RunningListener:
        """
        @raise Problem: there is no listener of that name.
        """
        try:
            return self.running.listeners[name]
        except KeyError:
            raise unknown("listener", name, self.running.listeners) from None

    def backend(self, group: RunningGroup, name: str) -> tuple[Backend, str]:
        """
        @param name: its label, or its endpoint string.
        @return: the backend, and its label.
        @raise Problem: the group has no such backend.
        """
        known = []
        for backend, label in labelled(self.backends(group)):
            if name in (label, backend.key):
                return backend, label
            known.append(label)
        raise unknown("backend", name, known)

    def backends(self, group: RunningGroup) -> tuple[Backend, ...]:
        """The backends of a group, in the source's order."""
        found: Iterable[Backend] = () if group.group is None else group.group.backends
        return tuple(found)

    def running_group(self, name: str) -> RunningGroup:
        """A group that has started.

        @raise Problem: there is none.
        """
        group = self.group(name)
        if group.group is None:
            raise Problem(409, f"group {name!r} has not started yet")
        return group
