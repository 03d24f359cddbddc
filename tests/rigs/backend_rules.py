"""C{BackendRules}: what backends, hooks and the machine do at random."""

from __future__ import annotations

import errno

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from twisted.internet.error import ConnectError

from tests.rigs.draws import SECONDS, SIDES, WHICH
from tests.rigs.rules import Rules
from tests.rigs.speakers import SLOTS, Multiplexed

__all__ = ["BackendRules"]

LACKING = st.sampled_from([errno.EMFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL])


class BackendRules(Rules):
    """Ends connections, refuses others, and lets hooks fail."""

    @precondition(lambda self: any(each.connections for each in self.ledger.fakes))
    @rule(which=WHICH, how=st.sampled_from(["close", "reset", "half_close", "speak"]))
    def disturb(self, which: int, how: str) -> None:
        self._disturb(which, how)

    def _disturb(self, which: int, how: str) -> None:
        connections = [each for fake in self.ledger.fakes for each in fake.connections]
        if not connections:
            return
        self.ledger.blows += 1
        connection = connections[which % len(connections)]
        if how == "speak":
            connection.speak(b"out of turn")
        else:
            getattr(connection, how)()

    @rule(side=SIDES)
    def fall_silent(self, side: int) -> None:
        """All peers of a backend die without a word: a check of what is open now never ends."""
        for each in self.ledger.made_at(side):
            each.is_silent = True

    @rule(
        side=SIDES, how=st.sampled_from(["accept", "refuse"]), after=SECONDS, always=st.booleans()
    )
    def script(self, side: int, how: str, after: float, always: bool) -> None:
        getattr(self.ledger.fakes[side], how)(after=after, always=always)

    @rule(side=SIDES)
    def never_answer(self, side: int) -> None:
        self.ledger.fakes[side].never_answer()

    @rule(side=SIDES, number=LACKING, times=st.sampled_from([1, 1, 3]))
    def lack(self, side: int, number: int, times: int) -> None:
        """The next attempts fail for want of something on this machine."""
        for _ in range(times):
            self.ledger.fakes[side].refuse(reason=ConnectError(osError=number))

    @rule(
        name=st.sampled_from(["prepare", "check", "reset", "clean"]),
        how=st.sampled_from(["succeed", "late", "raise", "refuse", "never", "abort"]),
    )
    def change_hook(self, name: str, how: str) -> None:
        self.ledger.hooks[name] = how

    @precondition(lambda self: self.slots is not None)
    @rule(which=WHICH, slots=st.integers(-1, 4))
    def change_slots(self, which: int, slots: int) -> None:
        protocols = [each for each in self.protocols() if isinstance(each, Multiplexed)]
        if protocols:
            protocols[which % len(protocols)].change(slots)

    @precondition(lambda self: self.slots is not None)
    @rule(slots=st.sampled_from([SLOTS, SLOTS, 0, 1, -1]))
    def begin_with_slots(self, slots: int) -> None:
        """New connections have so many slots."""
        self.ledger.first_slots = slots

    @rule(which=WHICH, how=st.sampled_from(["lose", "abort", "loseWrite"]))
    def hang_up(self, which: int, how: str) -> None:
        """Let a protocol close its connection in any state."""
        protocols = self.protocols()
        if protocols:
            self.ledger.blows += 1
            transport = protocols[which % len(protocols)].transport
            getattr(transport, f"{how}Connection", lambda: None)()

    # Time

    @rule(seconds=SECONDS, times=st.sampled_from([1, 1, 10]))
    def wait(self, seconds: float, times: int) -> None:
        for _ in range(times):
            self.ledger.clock.advance(seconds / times)

    @precondition(lambda self: self.age % 4 == 1)
    @rule(seconds=st.sampled_from([0.2, 3.0, 3600.0]))
    def set_back(self, seconds: float) -> None:
        self.ledger.set_back(seconds)
