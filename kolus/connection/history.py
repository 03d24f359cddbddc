"""C{History}: what a connection has been through, what it has served, and who hears of its end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from kolus.connection.losses import Losses

if TYPE_CHECKING:
    from kolus.errors import MachineFault
    from kolus.events import Why
    from kolus.lease import Lease

__all__ = ["STILLBORN", "History"]

STILLBORN = 1.0
"""A connection that ends within so many seconds without a lease counts as a failed attempt."""


class History:
    """The past of a connection; C{Connection} sets it.

    @ivar begun_at: when the attempt to make it began, on the clock.
    @ivar failures: the number of failed attempts in a row before it.
    @ivar mistake: what the user's own code raised while it was made, with which the backend has
        nothing to do.
    @ivar but: what it is that fails, in words, from when it is connected.
    @ivar connected_at: when it was connected, on the clock.
    @ivar since: when it was last leased, became idle, or began a check or a reset, on the clock;
        minus infinity before it was ready.
    @ivar checked_at: when it last passed a keep-alive check.
    @ivar uses: the number of its leases so far.
    @ivar observed_since: C{since} of the last lease whose lessee called C{observe}.
    @ivar answered: whether anything came during a lease, or a lease was released.
    @ivar proven: whether a lease was released while it was open, or its end was held against its
        backend.
    @ivar overdue_since: C{since} of the lease that was last reported as a possible leak.
    @ivar fault: what this machine lacked for the last hook that failed.
    @ivar unfit_by: what its check or reset failed with.
    @ivar why: why it is retired; C{None} if it is not, or if its peer or its protocol ended it.
    @ivar was_lost: whether it ended before the pool told it to.
    @ivar left_lessee: whether its peer ended it while it was leased.
    """

    # What every connection has. In slots it takes a quarter of the memory.
    __slots__ = (
        *("__dict__", "answered", "begun_at", "but", "connected_at", "failures", "proven"),
        *("since", "uses"),
    )

    manager: Any
    _maker: Any
    mistake: BaseException | None = None
    checked_at = -math.inf
    observed_since = -math.inf
    overdue_since = -math.inf
    fault: MachineFault | None = None
    unfit_by: BaseException | None = None
    why: Why | None = None
    was_lost = False
    left_lessee = False
    _ended: Failure | None = None
    _losses: Losses | None = None

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.begun_at = self.connected_at = 0.0
        self.but: str | None = None
        self.since = -math.inf
        self.uses = 0
        self.answered = self.proven = False

    @property
    def age(self) -> float:
        """Seconds since it was connected."""
        return float(self._maker.now() - self.connected_at)

    @property
    def was_ready(self) -> bool:
        """Whether it was ever made and prepared."""
        return self.since > -math.inf

    @property
    def reused(self) -> bool:
        """Whether the present lease is not its first."""
        return self.uses > 1

    def stillborn(self) -> bool:
        """Whether it was never leased, and is younger than C{STILLBORN}."""
        return self.uses == 0 and self.age < STILLBORN

    def in_state_for(self) -> float:
        """Seconds since it was last leased or came home."""
        return float(self._maker.now() - self.since)

    def known_good_at(self) -> float:
        """When it last came home or passed a keep-alive check, on the clock."""
        return max(self.since, self.checked_at)

    def observe(self, seconds: float) -> None:
        """See C{Lease.observe}."""
        self.observed_since = self.since
        self.manager.observe(seconds)

    def was_observed(self) -> bool:
        """Whether its current lessee has called C{observe}."""
        return self.observed_since == self.since

    def when_lost(self, lease: Lease[Any]) -> Deferred[BaseException]:
        """See C{Lease.when_lost}."""
        if self._losses is None:
            self._losses = Losses(self._ended)
        return self._losses.tell(lease)

    def take_losses(self, lease: Lease[Any]) -> list[Deferred[BaseException]]:
        """What C{when_lost} gave for a lease, to be fired by the caller."""
        return [] if self._losses is None else self._losses.take(lease)

    def ended_in_vain(self, is_well: bool) -> bool:
        """Whether its end is to be held against the backend, which is said only once.

        It is if the peer ended the connection during a lease, and the connection had served
        nothing. It had if a lease was released while it was open. It also had if something came
        during a lease, and then the peer closed it cleanly or the lessee says that all went well.

        @param is_well: whether the lease that is settled now was released.
        """
        if self.proven or not self.left_lessee:
            return False
        self.proven = True
        is_whole = self._ended is not None and bool(self._ended.check(ConnectionDone))
        return not (self.answered and (is_well or is_whole))
