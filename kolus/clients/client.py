"""C{Client}: what the pools of all protocols have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from twisted.internet.defer import Deferred

from kolus.backend import AnyBackend, Backend
from kolus.errors import shown
from kolus.group import Group
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.status import Status
from kolus.watching import PoolExplanation

__all__ = ["Client", "listed", "with_slots", "without_slots"]

_SLOTS = 100


class Client:
    """A pool of connections that speak one protocol.

    It is an asynchronous context manager, whose end closes it: C{async with RedisPool(reactor) as
    redis:}.

    @ivar pool: the pool of kolus, with all that it can do: C{client.pool.pause()} and so on.
    @ivar group: the servers, if they are known from the start; C{None} if they are not.
    @cvar instead: what to write instead of what other pools for this protocol have, by its name.
    """

    pool: Pool[Any]
    group: Group[Any] | None = None
    instead: ClassVar[Mapping[str, str]] = {}

    if not TYPE_CHECKING:  # a type checker knows what there is

        def __getattr__(self, name):
            kind, written = type(self).__name__, self.instead.get(name)
            hint = "" if written is None else f"; write: {written}"
            raise AttributeError(f"{kind!r} object has no attribute {name!r}{hint}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self.pool!r}>"

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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        closed = self.close()
        if kind is not GeneratorExit:  # else nobody runs this coroutine on
            await closed


def listed(backends: Iterable[AnyBackend]) -> list[Backend]:
    """The servers of a client.

    @raise ValueError: one of them is invalid, or they are one backend rather than a list.
    @raise TypeError: they are no list.
    """
    is_pair = isinstance(backends, tuple) and any(isinstance(each, int) for each in backends)
    if is_pair or isinstance(backends, str | Backend):
        raise ValueError(f"backends must be a list: write [{shown(backends)}]")
    if not isinstance(backends, Iterable):
        raise TypeError(f"backends must be a list, not {shown(backends)}")
    return [Backend.of(each) for each in backends]


def _policy_or(policy: Policy | None, default: Policy) -> Policy:
    """
    @raise TypeError: it is no policy.
    """
    if policy is None:
        return default
    if not isinstance(policy, Policy):
        raise TypeError(f"policy must be a Policy, not {shown(policy)}")
    return policy


def without_slots(policy: Policy | None, default: Policy) -> Policy:
    """The policy of a protocol whose connections serve one lease at a time.

    @raise ValueError: the policy has C{slots}.
    @raise TypeError: it is no policy.
    """
    policy = _policy_or(policy, default)
    if policy.slots is not None:
        raise ValueError(
            "policy has slots, but these connections serve one lease at a time: leave slots out"
        )
    return policy


def with_slots(policy: Policy | None) -> Policy:
    """The policy of a protocol whose calls share connections; C{Policy(slots=100)} if C{None}.

    @raise ValueError: the policy has no C{slots}.
    @raise TypeError: it is no policy.
    """
    policy = _policy_or(policy, Policy(slots=_SLOTS))
    if policy.slots is None:
        raise ValueError(
            f"policy has no slots: write Policy(slots={_SLOTS}), so that calls share connections"
        )
    return policy
