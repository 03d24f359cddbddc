"""C{result_of} and C{failure_of}: the present result of a Deferred."""

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
    """Take the result out of a Deferred.

    @return: the result. The Deferred does not keep it, so only the test holds a lease.
    @raise NotFired: there is no result yet; the Deferred stays as it was.
    @raise Exception: the exception that the Deferred failed with; the failure counts as handled.
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
    """Take the exception out of a failed Deferred.

    @return: the exception, of the type C{kind}.
    @raise NotFired: there is no result yet.
    @raise AssertionError: the Deferred has not failed.
    @raise Exception: the exception, if it is not a C{kind}.
    """
    try:
        result = result_of(deferred)
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got the result {result!r}")
