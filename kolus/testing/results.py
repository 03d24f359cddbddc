"""C{result_of}: what a Deferred has fired with, now."""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["NotFired", "failure_of", "result_of"]

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


class NotFired(AssertionError):
    """The Deferred has no result yet."""


def result_of(deferred: Deferred[T]) -> T:
    """Take out what C{deferred} has fired with.

    @return: its result, which the Deferred then has no more, so that nothing holds a lease longer
        than the test does.
    @raise NotFired: it has none yet; it is left as it was.
    @raise Exception: what it has failed with; the failure then counts as handled.
    """
    results: list[T | Failure] = []

    def take(result: T | Failure) -> T | Failure | None:
        if asking:
            results.append(result)
            return None
        return result

    asking = True
    deferred.addBoth(take)
    asking = False
    if not results:
        raise NotFired(f"{deferred!r} has no result yet")
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result


def failure_of(kind: type[E], deferred: Deferred[Any]) -> E:
    """Take out what C{deferred} has failed with, now; C{NotFired} if it has no result yet.

    @return: the exception.
    @raise AssertionError: it has a result.
    @raise Exception: it has failed with something else than C{kind}.
    """
    try:
        result = result_of(deferred)
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got the result {result!r}")
