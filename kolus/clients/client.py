"""C{Client}: what the pools of all protocols have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred

from kolus.backend import AnyBackend, Backend
from kolus.group import Group
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.status import Status
from kolus.watching import PoolExplanation

__all__ = ["Client", "listed", "with_slots"]

_SLOTS = 100


class Client:
    """A pool of connections that speak one protocol.

    @ivar pool: the pool of kolus, with all that it can do: C{client.pool.pause()} and so on.
    @ivar group: the servers, if they are known from the start; C{None} if they are not.
    """

    pool: Pool[Any]
    group: Group[Any] | None = None

    def status(self) -> list[Status]:
        """The numbers of each server; of those that have connections or waiters, if the servers are
        not known from the start."""
        return self.pool.status(None if self.group is None else self.group.backends)

    def explain(self) -> PoolExplanation:
        """See L{Pool.explain}."""
        return self.pool.explain()

    def close(self, timeout: float = 10.0) -> Deferred[None]:
        """See L{Pool.close}."""
        return self.pool.close(timeout)


def listed(backends: Iterable[AnyBackend]) -> list[Backend]:
    """The servers of a client.

    @raise ValueError: one of them is invalid, or they are one string rather than a list.
    """
    if isinstance(backends, str):
        raise ValueError(f"backends must be a list: write [{backends!r}]")
    return [Backend.of(each) for each in backends]


def with_slots(policy: Policy | None) -> Policy:
    """The policy of a protocol whose calls share connections; C{Policy(slots=100)} if C{None}.

    @raise ValueError: the policy has no C{slots}.
    """
    if policy is None:
        return Policy(slots=_SLOTS)
    if policy.slots is None:
        raise ValueError(
            f"policy has no slots: write Policy(slots={_SLOTS}), so that calls share connections"
        )
    return policy
