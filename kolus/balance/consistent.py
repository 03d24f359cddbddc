"""C{consistent}: consistent hashing, which maps a key to the same backend in every process.

The state of a C{Ring} is C{_circles}: the circles of the last lists of backends, the latest first.
Only C{circle} changes them. Everything else here is immutable, but for the backends' tuple of a
circle, which C{circle} replaces by an equal one.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from struct import unpack
from typing import TYPE_CHECKING

from kolus.balance.candidates import backends_of, by_load, lowest, total_load, whole_of
from kolus.support import check_whole

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.balance.balancer import Balancer
    from kolus.status import Status

__all__ = ["Ring", "consistent"]

_CIRCLES = 4
"""Number of lists that a ring remembers: all backends, those of the preferred zone, and all without
one that has just failed a request."""

_MOST_POINTS = 4096
"""Most points of one backend."""

_MOST_LOOKS = 16
"""Number of backends to look at, clockwise, before the least loaded of all is chosen."""

_POINTS_OF_A_DIGEST = 8


def consistent(
    key: str | bytes | int, ring: Ring | None = None, spill: float | None = 1.25
) -> Balancer:
    """A balancer for one request, which chooses the same backend for the same key.

    When a backend leaves, only its own keys move to others. A new backend takes its share of keys.

    @param key: C{"7"}, C{b"7"} and C{7} are the same key.
    @param ring: caches the positions of the backends; keep one for each group. Without it they are
        computed for this request, which is only for short lists.
    @param spill: if a backend would hold more than C{spill} times its share of all leases and
        waiters, the key goes to the next backend. C{None}: never; the request then waits for its
        backend alone. The key of a backend that takes no requests always goes to the next.
    @raise TypeError: C{key} has another type, whose hash may differ between processes.
    @raise ValueError: C{spill} is not a number of at least 1.
    """
    return _Consistent(key, ring, spill)


class _Consistent:
    """Goes clockwise on a ring, from the position of a key, to the first backend with room.

    The ring: David Karger and others, "Consistent Hashing and Random Trees", 1997. The bounded
    load: Vahab Mirrokni, Mikkel Thorup and Morteza Zadimoghaddam, "Consistent Hashing with Bounded
    Loads", 2016. If the way would be long, because a key is very hot or many backends take no
    requests, the least loaded backend of all is chosen instead: it has room if any has.

    @ivar prefers: always C{True}: the request gets a new connection to the chosen backend, rather
        than an idle connection to another.
    @ivar bound: whether only the chosen backend may serve the request.
    """

    prefers = True
    __slots__ = ("_place", "_ring", "_spill", "bound")

    def __init__(self, key: str | bytes | int, ring: Ring | None, spill: float | None) -> None:
        if spill is not None and not (isinstance(spill, int | float) and 1 <= spill < math.inf):
            raise ValueError(f"spill must be a number of at least 1, or None, not {spill!r}")
        self.bound = spill is None
        self._place = _place(key)
        self._ring = Ring() if ring is None else ring
        self._spill = spill

    def __call__(self, statuses: Sequence[Status]) -> Status:
        whole, left_out = whole_of(statuses)  # a retry elsewhere needs no new circle
        circle = self._ring.circle(backends_of(whole))
        room = math.inf  # the most requests of a backend of weight 1
        if self._spill is not None:
            room = self._spill * (total_load(statuses) + 1) / circle.weight
        home: Status | None = None
        places = circle.clockwise(self._place)
        if left_out:
            places = (each for each in places if each not in left_out)
        for looks, index in enumerate(places, 1):
            status = whole[index]
            home = status if home is None else home
            if _fits(status, room):
                return status
            if looks == _MOST_LOOKS:
                least = lowest(statuses, by_load)
                if least.load == math.inf:
                    return home
                if not self.bound:
                    return least
        least = lowest(statuses, by_load)
        return least if home is None or least.load < math.inf else home


class Ring:
    """The positions of backends on the circle of all hashes; requests to one group share it.

    A position depends on the endpoint string, or, if the endpoint is an object, on the backend's
    name. Give such a backend a name; otherwise its positions differ in each process.
    """

    __slots__ = ("_circles", "points")

    def __init__(self, points: int = 32) -> None:
        """
        @param points: number of points of a backend of weight 1. Others have points in proportion
            to their weight, from 1 to 4096. With n points the share of keys is exact to about one
            part in the square root of n. More points take longer to build. If the weights are in
            the hundreds, 1 is enough.
        @raise ValueError: C{points} is not a whole number from 1 to 4096.
        """
        check_whole("points", points, 1, _MOST_POINTS)
        self.points = points
        self._circles: list[_Circle] = []

    def circle(self, backends: tuple[Backend, ...]) -> _Circle:
        """The circle of a list of backends. Fast if the tuple is the same object as before."""
        if self._circles and self._circles[0].backends is backends:
            return self._circles[0]
        for circle in self._circles:
            if circle.is_of(backends):
                circle.backends = backends
                break
        else:
            circle = _Circle(backends, self.points)
        others = [each for each in self._circles if each is not circle]
        self._circles = [circle, *others[: _CIRCLES - 1]]
        return circle


class _Circle:
    """The sorted points of a list of backends, and the index of each point's backend."""

    __slots__ = ("backends", "owners", "places", "weight")

    def __init__(self, backends: tuple[Backend, ...], points: int) -> None:
        self.backends = backends
        self.weight = sum([each.weight for each in backends])
        places, owners = array("Q"), array("I")
        for index, backend in enumerate(backends):
            count = min(max(round(points * backend.weight), 1), _MOST_POINTS)
            places.extend(_places(backend, count))
            owners.extend([index] * count)
        unsorted = places.tolist()
        order = sorted(range(len(unsorted)), key=unsorted.__getitem__)
        self.places = array("Q", [unsorted[each] for each in order])
        self.owners = array("I", [owners[each] for each in order])

    def is_of(self, backends: tuple[Backend, ...]) -> bool:
        if self.backends is backends:
            return True
        return self.backends == backends and [each.weight for each in self.backends] == [
            each.weight for each in backends
        ]

    def clockwise(self, place: int) -> Iterator[int]:
        """The indices of the backends, clockwise from C{place}, each once."""
        start = bisect_left(self.places, place)
        seen = set()
        for at in chain(range(start, len(self.places)), range(start)):
            owner = self.owners[at]
            if owner not in seen:
                seen.add(owner)
                yield owner


def _fits(status: Status, room: float) -> bool:
    """Whether the backend takes requests and has room for one more."""
    load = status.load
    if load == math.inf or room == math.inf:
        return load < math.inf
    weight = status.backend.weight * status.ramp
    requests = load * weight  # the present ones and this one: a whole number, apart from rounding
    return requests < math.ceil(room * weight) + 0.5


def _places(backend: Backend, count: int) -> array[int]:
    """The first C{count} points of a backend. So a larger weight only adds points."""
    known = backend.endpoint if isinstance(backend.endpoint, str) else str(backend)
    text = known.encode("utf-8", "surrogatepass")
    places = array("Q")
    for number in range(-(-count // _POINTS_OF_A_DIGEST)):
        digest = blake2b(text, salt=number.to_bytes(2, "little")).digest()
        places.extend(unpack("<8Q", digest))
    return places[:count]


def _place(key: str | bytes | int) -> int:
    if isinstance(key, str):
        data = key.encode("utf-8", "surrogatepass")
    elif isinstance(key, bytes):
        data = key
    elif isinstance(key, int):
        data = b"%d" % key
    else:
        raise TypeError(f"a key must be a string, bytes or a whole number, not {key!r}")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")
