"""Owners of leases and requests: when an owner ends, its leases and requests end with it.

Each manager has one C{Ownership} per owner: the owner's leases and requests there, and whether the
owner has ended. A manager adds leases and requests; a request that is served leaves by itself, and
so does a lease that nobody refers to any more. An owner carries one hook, which tells all its
ownerships, however many managers, leases and requests it has had. All references here to owners,
leases and managers are weak: nothing is kept alive, and nothing of a manager that is gone stays.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, TypeVar

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger

from kolus.errors import LeaseError
from kolus.watching.explanation import label
from kolus.watching.running import watch_running

if TYPE_CHECKING:
    import asyncio

    from kolus.lease import Lease

__all__ = ["Owner", "Owners", "Ownership", "check_owner"]

Owner: TypeAlias = "Deferred[Any] | asyncio.Future[Any] | IProtocol | IService"
"""It ends when the Deferred fires, the task of asyncio is done, the protocol loses its connection,
or the service stops."""

T = TypeVar("T")
_HOOK = "_kolus_owner_hook"  # where a Deferred carries its hook
_task_hooks: weakref.WeakKeyDictionary[Any, _Hook] = weakref.WeakKeyDictionary()
_log = Logger()


class Ownership:
    """What one owner has at one manager.

    @ivar ended: whether the owner has ended. A service that was started again has not.
    @ivar leases: its leases, and where each was taken. A settled lease stays for as long as
        somebody refers to it.
    @ivar waiters: its requests in the queue, the oldest first.
    """

    def __init__(self, owner: Owner, waiting: dict[Ownership, None]) -> None:
        """
        @param waiting: the ownerships of the same manager that have waiters; live.
        """
        self.ended = False
        self._waiting = waiting
        self.leases: weakref.WeakKeyDictionary[Lease[Any], str] = weakref.WeakKeyDictionary()
        self.waiters: dict[Deferred[Any], None] = {}
        self._owner = weakref.ref(owner)

    @property
    def owner(self) -> Owner | None:
        """The owner; C{None} if nobody refers to it any more."""
        return self._owner()

    def hold(self, lease: Lease[Any], origin: str = "") -> None:
        """End this lease when the owner ends; at once if it has.

        @param origin: where the lease was taken.
        """
        self.leases[lease] = origin
        if self.ended:
            self.end()

    def wait(self, waiter: Deferred[Any]) -> None:
        """Cancel this request when the owner ends, unless it is served before; at once if the
        owner has ended."""
        self.waiters[waiter] = None
        self._waiting[self] = None
        waiter.addBoth(self._waited, waiter)
        if self.ended:
            self.end()

    def leave(self, waiter: Deferred[Any]) -> None:
        """Forget a request: it does not end with the owner any more."""
        self.waiters.pop(waiter, None)
        if not self.waiters:
            self._waiting.pop(self, None)

    def _waited(self, result: T, waiter: Deferred[Any]) -> T:
        self.leave(waiter)
        return result

    def end(self) -> None:
        """Cancel all requests and finish all leases.

        Requests come first. Otherwise they would be given the connections that the leases free.
        """
        self.ended = True
        for waiter in tuple(self.waiters):
            _contain(waiter.cancel)
        leases = list(self.leases)
        self.leases.clear()
        for lease in leases:
            if lease.held:
                _contain(lease.end)

    def begin_again(self) -> None:
        """The owner is a service and was started."""
        self.ended = False


class Owners:
    """The ownerships of one manager. Iterating gives those of owners that somebody refers to."""

    def __init__(self) -> None:
        self._ownerships: weakref.WeakKeyDictionary[Any, Ownership] = weakref.WeakKeyDictionary()
        self._waiting: dict[Ownership, None] = {}

    def __iter__(self) -> Iterator[Ownership]:
        return iter(list(self._ownerships.values()))

    def waiting(self) -> list[Ownership]:
        """Those with requests in the queue, of owners that somebody refers to."""
        return [each for each in self._waiting if each.owner is not None]

    def ownership(self, owner: Owner) -> Ownership:
        """The ownership of C{owner}; made if there is none.

        @raise TypeError: C{owner} is no owner, or cannot carry a hook.
        @raise LeaseError: C{owner} has ended. A protocol that was not seen before has if its
            transport says so. A service that was not seen before may be about to start.
        """
        check_owner(owner)
        ownership = self.find(owner)
        if ownership is not None and ownership.ended:
            raise _over(owner)
        if ownership is None:
            ownership = Ownership(owner, self._waiting)
            for hook in _hooks_of(owner):
                hook.ownerships.add(ownership)
            self._ownerships[owner] = ownership
        return ownership

    def find(self, owner: Any) -> Ownership | None:
        """The ownership of C{owner}, if it has one."""
        try:
            ownership = self._ownerships.get(owner)
        except TypeError as error:
            if not _may_own(owner):
                raise _not_an_owner(owner) from None
            raise TypeError(f"{label(owner)} cannot be an owner: {error}") from error
        if ownership is not None and ownership.owner is not owner:
            raise TypeError(f"{label(owner)} cannot be an owner: it equals another")
        return ownership


class _Hook:
    """The one hook that an owner carries.

    @ivar ownerships: whom to tell. The set is weak and forgets an ownership with its manager.
    """

    def __init__(self) -> None:
        self.ownerships: weakref.WeakSet[Ownership] = weakref.WeakSet()

    def end(self) -> None:
        """The owner has ended."""
        for ownership in tuple(self.ownerships):
            ownership.end()

    def runs(self, running: bool) -> None:
        """The owner is a service, and now it runs or not."""
        if running:
            self.begin_again()
        else:
            self.end()

    def begin_again(self) -> None:
        """The owner is a service and was started."""
        for ownership in tuple(self.ownerships):
            ownership.begin_again()

    def fired(self, result: T) -> T:
        """The owner is a Deferred and has fired, or a task and is done. A Deferred goes on with the
        same result."""
        self.end()
        return result


class _Hooked:
    """Replaces a method of an owner: it calls the hook, too."""

    def __init__(
        self, owner: Owner, name: str, hook: _Hook, tell: Callable[[], object], *, first: bool
    ) -> None:
        """
        @param tell: what to call of the hook.
        @param first: whether to call it before the method, not after it.
        """
        method = getattr(owner, name)
        # A reference to the owner's own method would keep the owner alive.
        own = getattr(method, "__self__", None) is owner
        self._method = weakref.WeakMethod(method) if own else lambda: method
        self._tell = tell
        self._first = first
        self.hook = hook

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        method: Any = self._method()
        if self._first:
            self._tell()
        try:
            return None if method is None else method(*args, **kwargs)
        finally:
            if not self._first:
                self._tell()


def _hooks_of(owner: Owner) -> set[_Hook]:
    """The hook that an owner carries; made if there is none. A service has two of them if one of
    its methods was replaced since."""
    hook = _Hook()
    if isinstance(owner, Deferred):
        known: _Hook = vars(owner).setdefault(_HOOK, hook)
        if known is hook:
            owner.addBoth(hook.fired)
        return {known}
    if _is_task(owner):
        if owner not in _task_hooks:
            _task_hooks[owner] = hook
            owner.add_done_callback(hook.fired)
        return {_task_hooks[owner]}
    if IProtocol.providedBy(owner):
        # After the method: a protocol may settle its leases when it loses its connection.
        return {_replace(owner, "connectionLost", hook, hook.end, first=False)}
    # Before the methods: a service that stops may wait for the answers that come by its leases.
    stop = _replace(owner, "stopService", hook, hook.end, first=True)
    if stop is hook:
        watch_running(owner, hook.runs)
    return {stop, _replace(owner, "startService", stop, stop.begin_again, first=True)}


def _replace(
    owner: Owner, name: str, hook: _Hook, tell: Callable[[], object], *, first: bool
) -> _Hook:
    """Let a method of C{owner} call a hook.

    @return: the hook that it calls: C{hook}, or the one that it called before.
    """
    method = getattr(owner, name)
    if isinstance(method, _Hooked):
        return method.hook
    try:
        setattr(owner, name, _Hooked(owner, name, hook, tell, first=first))
    except AttributeError as error:
        raise TypeError(f"{label(owner)} cannot be an owner: {error}") from error
    return hook


def check_owner(owner: Owner | None) -> None:
    """
    @raise TypeError: C{owner} is no owner.
    @raise LeaseError: C{owner} says by itself that it has ended.
    """
    if owner is None:
        return
    if not _may_own(owner):
        raise _not_an_owner(owner)
    if _has_ended(owner):
        raise _over(owner)


def _over(owner: Owner) -> LeaseError:
    return LeaseError(f"{label(owner)} has ended, so it cannot own a lease")


def _may_own(owner: object) -> bool:
    return (
        isinstance(owner, Deferred)
        or IProtocol.providedBy(owner)
        or IService.providedBy(owner)
        or _is_task(owner)
    )


def _is_task(owner: object) -> TypeGuard[asyncio.Future[Any]]:
    """Whether it is a task or a future of asyncio, which need not be imported to know."""
    module = sys.modules.get("asyncio")
    return module is not None and isinstance(owner, module.Future)


def _not_an_owner(other: object) -> TypeError:
    return TypeError(
        f"owner must be a Deferred, a Protocol, a Service or a task of asyncio, not {label(other)}"
    )


def _has_ended(owner: Owner) -> bool:
    """Whether an owner says by itself that it has ended."""
    if isinstance(owner, Deferred):
        return owner.called
    if _is_task(owner):
        return owner.done()
    if not IProtocol.providedBy(owner):
        return False
    transport = getattr(owner, "transport", None)
    was_lost = transport is None and bool(getattr(owner, "connected", False))
    return was_lost or bool(getattr(transport, "disconnected", False))


def _contain(action: Callable[[], object]) -> None:
    try:
        action()
    except BaseException:
        _log.failure("{action} raised at the end of an owner", action=action)
