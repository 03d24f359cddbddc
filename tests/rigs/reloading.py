"""The rig for reloads: a daemon whose listeners are fakes, with real groups, on a clock."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kolus.config import Config, ConfigError
from kolus.daemon.daemon import Daemon
from kolus.daemon.front_service import FrontService, Listening
from kolus.daemon.served_group import AHEAD, ServedGroup
from kolus.lease import Lease
from kolus.sources import StaticSource
from kolus.support import Work
from kolus.testing import result_of
from tests.rigs.staging import FakeFront, FakeListener

__all__ = ["PIECE", "Reloading"]

PIECE = 0.0015


class Reloading:
    """A daemon; C{config} is what it will read next, in C{pieces} that each take C{PIECE}.

    @ivar addresses: what becomes of listening on each address; the default is a port.
    @ivar fronts: the front of each listener by its name, the last one made.
    """

    def __init__(self, clock: Clock, config: Config) -> None:
        self.clock = clock
        self.config: Config | ConfigError = config
        self.pieces = 1
        self.addresses: dict[str, FakeListener] = {}
        self.fronts: dict[str, FakeFront] = {}
        self.daemon = Daemon(config, self, self._load)
        self.daemon.startService()
        self.settle()

    def _load(self) -> Work[Config]:
        read = self.config
        for _ in range(self.pieces):
            self.clock.rightNow += PIECE
            yield
        if isinstance(read, ConfigError):
            raise read
        return read

    def reload(self, config: Config | ConfigError) -> bool:
        self.config = config
        reloaded = self.daemon.reload()
        self.settle()
        done: bool = result_of(reloaded)
        return done

    def settle(self, seconds: float = 0.1) -> None:
        self.clock.pump([seconds / 10] * 10)

    def lease(self, listener: str = "clients") -> Lease[Any]:
        asked = self.connect(listener)
        self.settle()
        lease: Lease[Any] = result_of(asked)
        return lease

    def connect(self, listener: str = "clients") -> Deferred[Lease[Any]]:
        return self.daemon.connect(listener, AHEAD)

    def listens(self, address: str) -> bool:
        """Whether there is a port on an address that is open."""
        ports = [port for each in self.daemon.listeners.values() for port in each.ports]
        return self.addresses[address].port in ports and self.addresses[address].port.listening

    def end(self) -> None:
        for front in self.fronts.values():
            front.drained.callback(0)
        stopped = self.daemon.stopService()
        self.settle(10)
        assert result_of(stopped) is None
        assert not self.clock.getDelayedCalls()

    # As a Maker

    def make_group(self, config: Config, name: str) -> ServedGroup:
        return ServedGroup(self.clock, name, config.groups[name], self.make_source(config, name))

    def make_source(self, config: Config, name: str) -> StaticSource:
        return StaticSource(config.groups[name].backends)

    def make_listener(self, config: Config, name: str, connect: object) -> FrontService:
        self.fronts[name] = FakeFront()
        listening = self.listening(config, name)
        return FrontService(self.fronts[name], listening, grace=config.grace)

    def listening(self, config: Config, name: str) -> list[Listening]:
        addresses = config.listeners[name].listen
        return [(each, self.addresses.setdefault(each, FakeListener())) for each in addresses]

    def front_settings(self, config: Config, name: str) -> tuple[Any, Any, Any]:
        its = config.listeners[name]
        return its.settings, None, config.groups[its.group].send_proxy
