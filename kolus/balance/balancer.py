"""A balancer is a plain callable: it takes a sequence of C{Status} and returns one of them.

Health comes before load: a balancer chooses a backend that takes no requests only if it found no
other. A backend without a manager has no leases, no waiters, and its whole limit unused.

The sequence is lazy, and making a status has a cost: a balancer that looks at two pays for two. The
search for the lowest is fast in a group, which keeps an index; in other sequences it looks at each
status. No balancer asks twice for the status that it returns, if that backend takes requests.

A balancer may also have:

  - an attribute C{bound}: if C{True}, only the chosen backend may serve the request;
  - an attribute C{prefers}: if C{True}, the request gets a new connection to the chosen backend, if
    the backend may make one, rather than an idle connection to another backend;
  - a method C{observe(backend, seconds)}, called with the time that each lease was held. See
    C{consistent} and C{peak_ewma}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kolus.status import Status

__all__ = ["Balancer", "usable"]

Balancer = Callable[[Sequence["Status"]], "Status"]


def usable(balancer: Balancer) -> Balancer:
    """Return the balancer.

    @raise TypeError: it is not callable.
    """
    if not callable(balancer):
        raise TypeError(
            f"balancer must be callable with statuses, such as balance.pick_two(), not {balancer!r}"
        )
    return balancer
