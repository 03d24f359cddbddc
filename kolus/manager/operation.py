"""C{ManagerOperation}: the operator's methods of a manager: pause, resize, drain, close."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred

from kolus.errors import Closed, Draining
from kolus.events import Why
from kolus.manager.explaining import explain_manager
from kolus.support import check_seconds, check_whole

if TYPE_CHECKING:
    from kolus.manager.backend.record import BackendRecord
    from kolus.manager.connections.connections import Connections
    from kolus.manager.dispatcher import Dispatcher
    from kolus.manager.housekeeper import Housekeeper
    from kolus.manager.lifecycle import Lifecycle
    from kolus.manager.process_guard import ProcessGuard
    from kolus.manager.shutdown import Shutdown
    from kolus.manager.waiting.deadlock import Deadlocks
    from kolus.support import Alarm
    from kolus.watching import ManagerExplanation, Recorder

__all__ = ["ManagerOperation"]


class ManagerOperation:
    """Controls the use of one manager; see C{IKolusManager}."""

    __slots__ = ()

    connections: Connections[Any]
    deadlocks: Deadlocks
    process: ProcessGuard
    connections_changed: Callable[[], None]
    alarm: Alarm
    dispatcher: Dispatcher[Any]
    housekeeper: Housekeeper
    lifecycle: Lifecycle
    now: Callable[[], float]
    record: BackendRecord
    recorder: Recorder
    shutdown: Shutdown

    def pause(self) -> None:
        self.process.check()
        if self.lifecycle.serves:
            self.lifecycle.pause()
            self.record.changed(cast(Any, self))
            self.alarm.set(self.connections.vacant_until())
            self.dispatcher.decide()  # which may lead to its end
            self.record.turns.wake()  # what is idle may make way for another manager's
            self.recorder.paused()

    def resume(self) -> None:
        self.process.check()
        if self.lifecycle.resume():
            self.record.changed(cast(Any, self))
            self.recorder.resumed()
            self.dispatcher.decide()

    def resize(self, limit: int) -> None:
        check_whole("limit", limit, 1)
        self.process.check()
        self.record.resize(limit)

    def invalidate(self) -> None:
        self.process.check()
        self.record.renew()
        self.connections.retire_all(Why.INVALIDATED)
        self.connections_changed()
        self.deadlocks.look_at_all()

    def explain(self) -> ManagerExplanation:
        return explain_manager(cast(Any, self))

    def drain(self) -> Deferred[None]:
        self.process.check()
        self.shutdown.begin(Draining)
        return self.when_closed()

    def close(self, timeout: float) -> Deferred[None]:
        check_seconds("timeout", timeout, optional=False)
        self.process.check()
        self.lifecycle.abort_by(self.now() + timeout)
        self.shutdown.begin(Closed)
        self.housekeeper.wake()
        return self.when_closed()

    def when_closed(self) -> Deferred[None]:
        return self.lifecycle.when_closed()
