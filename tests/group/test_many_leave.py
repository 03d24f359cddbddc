"""Many backends leave a group at a time: they are drained over several turns of the reactor."""

from __future__ import annotations

from typing import Any

import pytest

from kolus import Backend
from kolus.testing import result_of
from tests.rigs.groups import Sourced


class Slow(Sourced):
    """Every backend has an idle connection, and to drain it takes time.

    @ivar open: the names of those that have it still.
    @ivar seen: what that was each time that others had their turn.
    """

    def __init__(self) -> None:
        super().__init__("abcd")
        for each in "abcd":
            self.at(each).release()
        self.seen: list[str] = []
        self._drain = self.pool._managers.drain
        self.pool._managers.drain = self._drain_slowly  # type: ignore[method-assign]

    def _drain_slowly(self, backend: Backend, *, until_back: bool) -> Any:
        self.clock.rightNow += 0.0015  # two of these are a turn
        return self._drain(backend, until_back=until_back)

    @property
    def open(self) -> str:
        return "".join([each for each in "abcd" if self.status(each).idle])

    def look(self, times: int) -> None:
        """Have a part of so many turns."""
        self.seen.append(self.open)
        if times > 1:
            self.clock.callLater(0, self.look, times - 1)


def test_others_have_their_turns_while_those_that_have_left_are_drained() -> None:
    rig = Slow()
    rig.tell("d")
    rig.look(3)
    rig.clock.advance(0)
    assert rig.seen == ["cd", "d", "d"]


def test_no_request_gets_what_is_not_drained_yet() -> None:
    rig = Slow()
    rig.tell("d")
    assert rig.open == "cd"
    assert str(rig.lease().backend) == "d"
    waiting = rig.ask()
    assert not waiting.called
    rig.clock.advance(0)
    waiting.addErrback(lambda failure: None)
    waiting.cancel()


def test_what_is_back_before_its_turn_stays_as_it_was() -> None:
    rig = Slow()
    rig.tell("d")
    rig.tell("cd")
    rig.clock.advance(0)
    assert rig.open == "cd"
    assert {str(each.backend) for each in (rig.lease(), rig.lease())} == set("cd")


@pytest.mark.parametrize("also", [False, True], ids=["idle", "leased"])
def test_a_pool_that_closes_meanwhile_leaves_nothing(also: bool) -> None:
    rig = Slow()
    lease = rig.at("a") if also else None
    rig.tell("d")
    closed = rig.pool.close(timeout=1.0)
    rig.clock.pump([0, 1, 1])
    if lease is not None and lease.held:
        lease.finished()
    assert result_of(closed) is None
    assert rig.open == ""
    assert not rig.clock.getDelayedCalls()
