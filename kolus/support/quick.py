"""C{QuickDeferred}: makes a kind of Deferred that is made and awaited at a lower price.

A quarter of the price of C{await succeed(x)} is the call of C{Deferred.__init__}. So a quick one is
made without it, by C{waiting} or C{fired}, which set what it would. C{fire} spares the two calls
between C{callback} and the loop that runs the callbacks. That leans on attributes which
are Twisted's own: C{IS_KNOWN} says whether they are what they were; if not, a quick Deferred is
like any other. There is to be one subclass of it: Twisted looks for the type of each result in a
list of all kinds of Deferreds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from kolus.support.asyncio_tasks import is_awaited_by_a_task, tasks

__all__ = [
    "IS_KNOWN",
    "QuickDeferred",
    "failed",
    "fire",
    "fired",
    "following",
    "has_callbacks",
    "waiting",
]

D = TypeVar("D", bound="Deferred[Any]")


def is_known(kind: type[Deferred[Any]]) -> bool:
    """Whether a Deferred consists of what C{fired} and C{waiting} give it, and tells C{__await__}
    what that asks."""
    try:
        return _is_fired_as_usual(kind) and _tells_whether_it_failed(kind)
    except AttributeError:
        return False


def _is_fired_as_usual(kind: type[Deferred[Any]]) -> bool:
    new: Any = kind()
    parts = vars(new) == {"_callbacks": [], "_canceller": None}
    if not parts or (new.called, new.paused, new._chainedTo) != (False, 0, None):
        return False
    usual: Any = kind()
    _fire(new, "result")
    usual.callback("result")
    return bool(vars(new) == vars(usual)) and new._debugInfo is None


def _tells_whether_it_failed(kind: type[Deferred[Any]]) -> bool:
    failed: Any = kind()
    failed.errback(ValueError())
    failed.addErrback(lambda _: None)
    return failed._debugInfo is not None


def _fire(waiting: Deferred[Any], result: object) -> None:
    quick: Any = waiting
    if quick.called or quick.debug:
        waiting.callback(result)
        return
    quick.called = True
    quick._canceller = None
    quick.result = result
    quick._runCallbacks()


def _fire_slowly(waiting: Deferred[Any], result: object) -> None:
    waiting.callback(result)


IS_KNOWN = is_known(Deferred)


class QuickDeferred:
    """What a quick Deferred inherits from, besides and before C{Deferred}."""

    __slots__ = ()

    if IS_KNOWN:
        __init__ = object.__init__

    if not TYPE_CHECKING:  # its type is that of the Deferred's

        def __await__(self):
            if tasks and is_awaited_by_a_task():
                raise self.refuse_task()
            while not self.called or self.paused:
                yield self
            if self._debugInfo is not None:  # it has failed, if only before some callback
                return (yield from super().__await__())
            return self.result

    def refuse_task(self) -> Exception:
        """An asyncio task awaits this, and cannot: give up, so that nothing is lost.

        @return: what to raise.
        """
        raise NotImplementedError


def _waiting(kind: type[D], canceller: Callable[[D], None]) -> D:
    made: Any = kind()
    made._callbacks = []
    made._canceller = canceller
    return made  # type: ignore[no-any-return]


def _fired(kind: type[D], result: object) -> D:
    made: Any = kind()
    made._callbacks = []
    made.called = True
    made.result = result
    return made  # type: ignore[no-any-return]


def _waiting_slowly(kind: type[D], canceller: Callable[[D], None]) -> D:
    return kind(canceller)  # type: ignore[arg-type]


def _fired_slowly(kind: type[D], result: object) -> D:
    made = kind()
    made.callback(result)
    return made


def failed(kind: type[D]) -> D:
    """Make one that has failed with the exception that is being handled, as C{defer.fail} does."""
    made: Any = waiting(kind, _do_nothing)
    made.errback()
    return made  # type: ignore[no-any-return]


def following(kind: type[D], other: Deferred[Any], drop: Callable[[Any], object]) -> D:
    """Make one that gets the result of another Deferred. Cancelling it cancels that.

    @param drop: called with the result of what could not be cancelled just then.
    """
    made = waiting(kind, lambda _: other.cancel())

    def tell(result: Any) -> None:
        if not made.called:
            made.callback(result)
        elif not isinstance(result, Failure):
            drop(result)

    other.addBoth(tell)
    return made


def has_callbacks(deferred: Deferred[Any]) -> bool:
    """Whether somebody has callbacks on it that did not run yet; C{True} if that cannot be told."""
    return bool(getattr(deferred, "_callbacks", True))


def _do_nothing(_: object) -> None:
    """The canceller of what has its result already."""


waiting = _waiting if IS_KNOWN else _waiting_slowly
"""Make one that waits to be fired. C{canceller} is as a Deferred's."""

fired = _fired if IS_KNOWN else _fired_slowly
"""Make one that has its result, which is neither a C{Failure} nor a Deferred."""

fire = _fire if IS_KNOWN else _fire_slowly
"""Give one that waits its result, which is neither a C{Failure} nor a Deferred."""
