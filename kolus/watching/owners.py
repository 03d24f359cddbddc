"""Owners of leases and of requests: when an owner ends, what it owns ends with it.

Its state is an ownership for each owner of a manager's leases: the leases and the waiters that end
with it, and whether it has ended. Managers add to an ownership; what is settled, served or
forgotten leaves it by itself. An owner carries one hook, however many managers know it, that tells
their ownerships. Nothing here keeps an owner, a lease or a manager alive: all are referred to
weakly.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger

from kolus.errors import LeaseError
from kolus.watching.explanation import label

if TYPE_CHECKING:
    from kolus.lease import Lease

__all__ = ["Owner", "Owners", "Ownership", "check_owner"]

Owner: TypeAlias = Deferred[Any] | IProtocol | IService
"""It ends when the Deferred fires, the connection of the protocol is lost, the service stops."""

T = TypeVar("T")
_log = Logger()


class Ownership:
    """What one owner has of one manager.

    @ivar ended: whether the owner has ended; a service that is started again has not.
    @ivar leases: its leases, each with where it was taken. One that is settled stays until its
        lessee forgets it.
    @ivar waiters: its requests that wait, the oldest first.
    """

    def __init__(self, owner: Owner) -> None:
        self.ended = False
        self.leases: weakref.WeakKeyDictionary[Lease[Any], str] = weakref.WeakKeyDictionary()
        self.waiters: dict[Deferred[Any], None] = {}
        self._owner = weakref.ref(owner)

    @property
    def owner(self) -> Owner | None:
        """Whose it is; C{None} if nobody refers to the owner any more."""
        return self._owner()

    def hold(self, lease: Lease[Any], origin: str = "") -> None:
        """Let a lease end with the owner, so at once if that has ended.

        @param origin: where it was taken.
        """
        self.leases[lease] = origin
        if self.ended:
            self.end()

    def wait(self, waiter: Deferred[Any]) -> None:
        """Let a request end with the owner, so at once if that has ended, until it is served."""
        self.waiters[waiter] = None
        waiter.addBoth(self._waited, waiter)
        if self.ended:
            self.end()

    def leave(self, waiter: Deferred[Any]) -> None:
        """Let a request be, whatever becomes of the owner."""
        self.waiters.pop(waiter, None)

    def _waited(self, result: T, waiter: Deferred[Any]) -> T:
        self.leave(waiter)
        return result

    def end(self) -> None:
        """Cancel every waiter and finish every lease.

        The waiters first, or what the leases set free would be given to them.
        """
        self.ended = True
        for waiter in tuple(self.waiters):
            _contain(waiter.cancel)
        leases = list(self.leases)
        self.leases.clear()
        for lease in leases:
            if lease.held:
                _contain(lease.end)

    def end_with(self, result: T) -> T:
        """End, as a callback of the owner, which goes on with C{result}."""
        self.end()
        return result

    def begin_again(self) -> None:
        """The owner, a service, is started."""
        self.ended = False


class Owners:
    """The ownerships of one manager; iterating gives those whose owners live."""

    def __init__(self) -> None:
        self._ownerships: weakref.WeakKeyDictionary[Any, Ownership] = weakref.WeakKeyDictionary()

    def __iter__(self) -> Iterator[Ownership]:
        return iter(list(self._ownerships.values()))

    def ownership(self, owner: Owner) -> Ownership:
        """The one ownership of C{owner}.

        @raise TypeError: it is none of these, or it cannot be told when it ends.
        @raise LeaseError: it has ended. Of a protocol or a service that was never seen before,
            this is noticed as far as its transport tells; a service may be about to start.
        """
        check_owner(owner)
        ownership = self.find(owner)
        if ownership is not None and ownership.ended:
            raise _over(owner)
        if ownership is None:
            ownership = _hooked(owner)
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
    """Stands in the place of a method of the owner, to tell ownerships when it is called.

    @ivar ownerships: whom to tell. They live as long as their manager does: an owner that outlives
        a thousand managers still has one hook.
    """

    def __init__(
        self, owner: Owner, name: str, tell: Callable[[Ownership], None], *, first: bool
    ) -> None:
        """
        @param first: whether they are told before the method is called, not after.
        """
        method = getattr(owner, name)
        # The method of the owner itself would keep it alive from within.
        own = getattr(method, "__self__", None) is owner
        self._method = weakref.WeakMethod(method) if own else lambda: method
        self._tell = tell
        self._first = first
        self.ownerships: weakref.WeakSet[Ownership] = weakref.WeakSet()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        method: Any = self._method()
        if self._first:
            self._tell_all()
        try:
            return None if method is None else method(*args, **kwargs)
        finally:
            if not self._first:
                self._tell_all()

    def _tell_all(self) -> None:
        for ownership in tuple(self.ownerships):
            self._tell(ownership)


def _hooked(owner: Owner) -> Ownership:
    """An ownership that is told when its owner ends."""
    if not _may_own(owner):
        raise _not_an_owner(owner)
    ownership = Ownership(owner)
    if isinstance(owner, Deferred):
        owner.addBoth(ownership.end_with)
    elif IProtocol.providedBy(owner):
        # A protocol may settle its leases itself when it loses its connection.
        _hook(owner, "connectionLost", ownership, Ownership.end, first=False)
    else:
        # What a service waits for while it stops may be an answer to come by these leases.
        _hook(owner, "stopService", ownership, Ownership.end, first=True)
        _hook(owner, "startService", ownership, Ownership.begin_again, first=True)
    return ownership


def _hook(
    owner: Owner, name: str, ownership: Ownership, tell: Callable[[Ownership], None], *, first: bool
) -> None:
    hook = getattr(owner, name)
    if not isinstance(hook, _Hook):
        hook = _Hook(owner, name, tell, first=first)
        try:
            setattr(owner, name, hook)
        except AttributeError as error:
            raise TypeError(f"{label(owner)} cannot be an owner: {error}") from error
    hook.ownerships.add(ownership)


def check_owner(owner: Owner | None) -> None:
    """
    @raise TypeError: C{owner} cannot be one.
    @raise LeaseError: it has ended already, as far as it tells by itself.
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
    return isinstance(owner, Deferred) or IProtocol.providedBy(owner) or IService.providedBy(owner)


def _not_an_owner(other: object) -> TypeError:
    return TypeError(f"owner must be a Deferred, a Protocol or a Service, not {label(other)}")


def _has_ended(owner: Owner) -> bool:
    """Whether the owner tells by itself that it has ended."""
    if isinstance(owner, Deferred):
        return owner.called
    if not IProtocol.providedBy(owner):
        return False
    transport = getattr(owner, "transport", None)
    let_go = transport is None and bool(getattr(owner, "connected", False))
    return let_go or bool(getattr(transport, "disconnected", False))


def _contain(action: Callable[[], object]) -> None:
    try:
        action()
    except Exception:
        _log.failure("{action} raised at the end of an owner", action=action)
