"""What a balancer is: a plain callable that chooses one C{Status} out of a sequence of them.

Health comes before load: what takes no requests is chosen only if nothing else could be found.
Where no manager runs yet nothing is leased and nothing waits, and the whole limit is unused.

The sequence is lazy, and making a status costs something: a balancer that looks at two pays for
two. What looks for the lowest of all is quick in a group, which keeps an index; of any other
sequence it looks at each. No balancer asks twice for the status that it returns, if that takes
requests.

Besides being called, a balancer may have an attribute C{bound} (C{True}: the request may be served
by the backend chosen and by no other), an attribute C{prefers} (C{True}: rather than with what is
idle elsewhere the request is served with a new connection to the backend chosen, if that may make
one), and a method C{observe}, which hears how long each lease was held: see C{consistent} and
C{peak_ewma}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kolus.status import Status

__all__ = ["Balancer", "usable"]

Balancer = Callable[[Sequence["Status"]], "Status"]


def usable(balancer: Balancer) -> Balancer:
    """
    @raise TypeError: it cannot be called.
    """
    if not callable(balancer):
        raise TypeError(f"balancer must be callable with statuses, not {balancer!r}")
    return balancer
