"""One call on a leased connection: the lease is settled when its answer has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from kolus.lease import Lease

__all__ = ["run_call"]


def run_call(
    lease: Lease[Any],
    call: Callable[[Any], Deferred[Any]],
    is_harmless: Callable[[BaseException], bool],
) -> Deferred[Any]:
    """Call a function with the protocol of a lease, and settle the lease by its outcome.

    @param is_harmless: whether an error says nothing against the connection. A call that was
        cancelled is harmless: these protocols skip its answer when it comes.
    @return: what the call gives.
    """
    try:
        answer = call(lease.protocol)
    except BaseException as error:
        if is_harmless(error):
            lease.release()
        else:
            lease.finished()
        raise
    return answer.addBoth(_settle, lease, is_harmless)


def _settle(result: Any, lease: Lease[Any], is_harmless: Callable[[BaseException], bool]) -> Any:
    if not lease.held:
        return result
    error = result.value if isinstance(result, Failure) else None
    if error is None or isinstance(error, CancelledError) or is_harmless(error):
        lease.release()
    else:
        lease.finished()
    return result
