"""Proxies that refuse to work: after their lease is settled, or in a forked child.

The state is one note for each lease: where it was settled. C{Traced.settled} writes it, and all
proxies of the lease read it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import BuiltinMethodType, MethodType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred

from kolus.errors import LeaseError
from kolus.watching.explanation import label

if TYPE_CHECKING:
    from kolus.lease import Leasable, Lease

__all__ = ["Forked", "Guarded", "Traced", "unguarded"]

_own = object.__getattribute__
_set_own = object.__setattr__


class _Note:
    """Where a lease was settled; C{None} while it is held."""

    __slots__ = ("where",)

    def __init__(self) -> None:
        self.where: str | None = None


class Guarded:
    """A proxy for an object. After the lease is settled, any use raises C{LeaseError}.

    All uses are passed on to the object. Its methods and its C{transport} are returned as proxies
    too, so using a saved method is also an error. The object itself never gets a proxy: arguments
    are replaced by the objects behind them. Comparing, hashing and printing always work, because
    they do not use the connection.
    """

    __slots__ = ("__weakref__", "_note", "_target")

    def __init__(self, target: object, note: _Note) -> None:
        _set_own(self, "_target", target)
        _set_own(self, "_note", note)

    def __getattribute__(self, name: str) -> Any:
        value = getattr(unguarded(self), name)
        is_transport = name == "transport" and value is not None
        if is_transport or type(value) in (MethodType, BuiltinMethodType):
            return guarded(value, _own(self, "_note"))
        return value

    def __setattr__(self, name: str, value: object) -> None:
        setattr(unguarded(self), name, unguarded(value))

    def __delattr__(self, name: str) -> None:
        delattr(unguarded(self), name)

    def __bool__(self) -> bool:
        return bool(unguarded(self))

    def __eq__(self, other: object) -> bool:
        target: object = _own(self, "_target")
        return target == (_own(other, "_target") if isinstance(other, Guarded) else other)

    def __hash__(self) -> int:
        return hash(_own(self, "_target"))

    def __repr__(self) -> str:
        return repr(_own(self, "_target"))

    def __str__(self) -> str:
        return str(_own(self, "_target"))


_SPECIAL = (
    *("__call__", "__len__", "__iter__", "__next__", "__contains__", "__getitem__", "__setitem__"),
    *("__delitem__", "__enter__", "__exit__", "__aenter__", "__aexit__", "__aiter__", "__anext__"),
    "__await__",
)
"""The methods that Python looks up in the class of an object, past its attributes."""

_kinds: WeakKeyDictionary[type, type[Guarded]] = WeakKeyDictionary()
"""For the class of each object: the class of its proxies, with as many of these methods."""


def guarded(target: object, note: _Note) -> Guarded:
    """Make a proxy."""
    kind = _kinds.get(type(target))
    if kind is None:
        known = set().union(*map(vars, type(target).__mro__))  # without those of its metaclass
        passed = {each: _pass_on(each) for each in _SPECIAL if each in known}
        kind = _kinds[type(target)] = type("Guarded", (Guarded,), {"__slots__": ()} | passed)
    return kind(target, note)


def _pass_on(name: str) -> Callable[..., Any]:
    def method(self: Guarded, *args: object, **kwargs: object) -> Any:
        target = unguarded(self)
        named = {each: unguarded(value) for each, value in kwargs.items()}
        return getattr(type(target), name)(target, *map(unguarded, args), **named)

    return method


def unguarded(value: Any) -> Any:
    """The object behind a proxy; any other value is returned as it is.

    @raise LeaseError: the lease is settled.
    """
    if not isinstance(value, Guarded):
        return value
    target, where = _own(value, "_target"), _own(value, "_note").where
    if where is not None:
        raise LeaseError(
            f"{label(target)} was used after its lease had been settled here:\n{where}"
        )
    return target


class Traced:
    """A C{Leasable} around another one, used in debug mode: its protocol is a proxy.

    @ivar leasable: the wrapped C{Leasable}.
    @ivar origin: where the lease was taken.
    """

    def __init__(self, leasable: Leasable[Any], origin: str) -> None:
        self.leasable = leasable
        self.origin = origin
        self._note = _Note()
        self._protocol = guarded(leasable.protocol, self._note)

    def settled(self, where: str) -> None:
        """From now on any use of the lease's proxies raises an error that names C{where}."""
        self._note.where = where

    @property
    def protocol(self) -> Any:
        """A proxy for the protocol."""
        protocol = self.leasable.protocol
        if _own(self._protocol, "_target") is not protocol:  # replaced after a fork
            self._protocol = guarded(protocol, self._note)
        return self._protocol

    @property
    def manager(self) -> Any:
        return self.leasable.manager

    @property
    def reused(self) -> bool:
        return self.leasable.reused

    @property
    def age(self) -> float:
        return self.leasable.age

    def when_lost(self, lease: Lease[Any]) -> Deferred[BaseException]:
        return self.leasable.when_lost(lease)

    def observe(self, seconds: float) -> None:
        self.leasable.observe(seconds)


class Forked:
    """Replaces a protocol in a forked child: any use raises C{LeaseError}."""

    __slots__ = ("_message",)

    def __init__(self, message: str) -> None:
        _set_own(self, "_message", message)

    def __getattribute__(self, name: str) -> Any:
        raise LeaseError(_own(self, "_message"))

    def __setattr__(self, name: str, value: object) -> None:
        raise LeaseError(_own(self, "_message"))

    def __delattr__(self, name: str) -> None:
        raise LeaseError(_own(self, "_message"))

    def __call__(self, *args: object, **kwargs: object) -> Any:
        raise LeaseError(_own(self, "_message"))

    def __repr__(self) -> str:
        return f"<Forked: {_own(self, '_message')}>"
