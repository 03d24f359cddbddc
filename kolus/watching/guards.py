"""Proxies that refuse to work: after their lease is settled, or in a forked child.

The state is one note for each lease: where it was settled. C{Traced.settled} writes it, and all
proxies of the lease read it.
"""

from __future__ import annotations

import operator
from types import BuiltinMethodType, MethodType
from typing import TYPE_CHECKING, Any

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
        value = getattr(_used(self), name)
        if type(value) in (MethodType, BuiltinMethodType):
            return Guarded(value, _own(self, "_note"))
        if name == "transport" and value is not None:
            return Guarded(value, _own(self, "_note"))
        return value

    def __setattr__(self, name: str, value: object) -> None:
        setattr(_used(self), name, _used(value))

    def __delattr__(self, name: str) -> None:
        delattr(_used(self), name)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        named = {name: _used(value) for name, value in kwargs.items()}
        return _used(self)(*map(_used, args), **named)

    def __bool__(self) -> bool:
        return bool(_used(self))

    def __len__(self) -> int:
        return len(_used(self))

    def __iter__(self) -> Any:
        return iter(_used(self))

    def __contains__(self, item: object) -> bool:
        return operator.contains(_used(self), _used(item))

    def __getitem__(self, key: object) -> Any:
        return _used(self)[_used(key)]

    def __eq__(self, other: object) -> bool:
        target: object = _own(self, "_target")
        return target == (_own(other, "_target") if type(other) is Guarded else other)

    def __hash__(self) -> int:
        return hash(_own(self, "_target"))

    def __repr__(self) -> str:
        return repr(_own(self, "_target"))

    def __str__(self) -> str:
        return str(_own(self, "_target"))


def _used(value: Any) -> Any:
    """The object behind a proxy; any other value is returned as it is.

    @raise LeaseError: the lease is settled.
    """
    if type(value) is not Guarded:
        return value
    target, where = _own(value, "_target"), _own(value, "_note").where
    if where is not None:
        raise LeaseError(
            f"{label(target)} was used after its lease had been settled here:\n{where}"
        )
    return target


def unguarded(value: Any) -> Any:
    """The object behind a proxy; any other value is returned as it is.

    @raise LeaseError: the lease is settled.
    """
    return _used(value)


class Traced:
    """A C{Leasable} around another one, used in debug mode: its protocol is a proxy.

    @ivar leasable: the wrapped C{Leasable}.
    @ivar origin: where the lease was taken.
    """

    def __init__(self, leasable: Leasable[Any], origin: str) -> None:
        self.leasable = leasable
        self.origin = origin
        self._note = _Note()
        self._protocol = Guarded(leasable.protocol, self._note)

    def settled(self, where: str) -> None:
        """From now on any use of the lease's proxies raises an error that names C{where}."""
        self._note.where = where

    @property
    def protocol(self) -> Any:
        """A proxy for the protocol."""
        protocol = self.leasable.protocol
        if _own(self._protocol, "_target") is not protocol:  # replaced after a fork
            self._protocol = Guarded(protocol, self._note)
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
