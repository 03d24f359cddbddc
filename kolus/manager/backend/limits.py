"""C{Limits}: sets how many connections the backends of a pool may have, each and together.

Its state is the limits of backends that have managers, which may need as many file descriptors,
and the pools that share the limits. The limit of each backend is in its record; what was set by
hand and what groups say is in C{Records}.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from twisted.logger import Logger

from kolus.support import DescriptorWatch, check_whole

if TYPE_CHECKING:
    from kolus.backend import Backend, Backends
    from kolus.interfaces import IKolusManager
    from kolus.manager.backend.record import BackendRecord
    from kolus.manager.managers import Managers

__all__ = ["Limits"]

_log = Logger()


class Limits:
    """Changes the limits of backends, whether they have managers or not.

    @ivar descriptors: adds up those limits.
    """

    def __init__(self, managers: Managers) -> None:
        self._managers = managers
        self._records = managers.records
        self.descriptors = DescriptorWatch()
        self.descriptors.most = self._records.budget.limit
        self._counted: dict[Hashable, int] = {}
        self._sharing: list[Limits] = []

    def of(self, backend: Backend) -> int:
        """The most connections of a backend."""
        record = self._records.find(backend.key)
        if record is None:
            return self._records.limit(backend, self._managers.policy)
        return record.limit

    def count(self, backend: Backend, limit: int) -> None:
        """Count the file descriptors that a backend may need; 0 if it has no manager any more."""
        self.descriptors.change(self._counted.pop(backend.key, 0), limit)
        if limit:
            self._counted[backend.key] = limit

    def resize(self, limit: int, backend: Backend | None) -> None:
        """Set the limit of a backend; C{None}: of all backends without their own."""
        check_whole("limit", limit, 1)
        self._managers.process.check()
        managers: Sequence[IKolusManager]
        if backend is None:
            own = self._records.own_limit
            self._managers.policy = self._managers.policy.resized(limit)
            records = [each for each in self._records if own(each.backend) is None]
            managers = [each for each in self._managers if own(each.backend) is None]
        else:
            self._records.limits[backend.key] = limit
            records = list(self._records.among({backend.key: backend}))
            managers = self._managers.of(backend)
        self._resize(limit, records, managers)

    def resize_pool(self, limit: int | None) -> None:
        """Set the limit of all backends together; C{None}: no limit."""
        check_whole("limit", limit, 1, optional=True)
        self._managers.process.check()
        self.descriptors.most = limit
        self._records.budget.resize(limit, self._records)
        for record in self._records:
            record.turns.wake()
        self._records.tell_watchers(None)

    def follow(self, before: Backends, now: Backends) -> None:
        """A group has another list. A backend whose limit it changes gets that limit, whatever was
        set by hand. A backend that came or left gets the limit that lists say now, unless one was
        set by hand."""
        managers, records = self._managers, self._records
        if managers.process.is_foreign:
            return
        others = [key for key, each in before.items() if now.get(key, each).limit != each.limit]
        said = [now[key] for key in others]
        for backend in said:
            records.limits.pop(backend.key, None)
        came = [each.backend for each in records.among(now) if each.backend.key not in before]
        left = [each.backend for each in records.among(before) if each.backend.key not in now]
        for backend in said + came + left:
            record = records.find(backend.key)
            limit = records.limit(backend, managers.policy)
            if record is None or record.limit != limit:
                try:
                    self._resize(limit, [record] if record else [], managers.of(backend))
                except Exception:  # a user's manager raised; go on with the rest of the list
                    _log.failure("{backend} keeps the limit that it had", backend=backend)

    def _resize(
        self, limit: int, records: Sequence[BackendRecord], managers: Sequence[IKolusManager]
    ) -> None:
        members: list[object] = [each for record in records for each in record.members]
        for manager in managers:
            self.count(manager.backend, limit)
        for record in records:
            record.resize(limit)
        for manager in managers:  # a user's manager may not be a member of the record
            if manager not in members:
                manager.resize(limit)

    # With another pool

    def share(self, other: Limits) -> None:
        """See C{Pool.share_limits}."""
        if other is self:
            raise ValueError("a pool shares its limits with another pool, not with itself")
        if other in self._sharing:
            return
        for one, another in ((self, other), (other, self)):
            one._sharing.append(another)
            one._records.sharers.append(another._record_of)
            for record in one._records:
                for connection in record.all - record.detached:
                    another._record_of(record.backend).slot_kept(connection)

    def share_no_more(self) -> None:
        """The pool has no connection left, and makes none."""
        for other in self._sharing:
            other._sharing.remove(self)
            other._records.sharers.remove(self._record_of)
        self._sharing.clear()
        self._records.sharers.clear()

    def _record_of(self, backend: Backend) -> BackendRecord:
        return self._records.of(backend, self._managers.policy)
