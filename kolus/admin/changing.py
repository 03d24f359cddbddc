"""The calls that change something: each does it, logs who asked, and answers what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.logger import Logger

from kolus.admin.call import Answer, Call, answer
from kolus.admin.finder import Finder
from kolus.admin.problem import Problem
from kolus.admin.routes import Route
from kolus.admin.running import RunningGroup
from kolus.admin.schemas import ref
from kolus.admin.snapshot import Snapshot
from kolus.backend import Backend
from kolus.errors import KolusError

__all__ = ["Changing"]

_log = Logger()

_LIMIT: dict[str, Any] = {"limit": {"type": "integer", "minimum": 1, "maximum": 1_000_000_000}}
_WEIGHT: dict[str, Any] = {"weight": {"type": "number", "minimum": 1e-6, "maximum": 1e6}}

_Change = Callable[[Call, RunningGroup, Backend | None], str]
"""Changes a backend, or a whole group, and says what it has done."""


class Changing:
    """Serves the calls that change something."""

    def __init__(self, finder: Finder, snapshot: Snapshot) -> None:
        self._finder = finder
        self._snapshot = snapshot

    def routes(self) -> Iterator[Route]:
        of_backends: list[tuple[str, str, _Change, dict[str, Any]]] = [
            (
                "drain",
                "Ejects a backend, and ends its connections when their leases are settled.",
                _drain,
                {},
            ),
            ("eject", "Ejects a backend: it is not chosen until it is admitted.", _eject, {}),
            ("admit", "Admits a backend that was ejected or drained.", _admit, {}),
            ("weight", "Changes the weight of a backend.", _weight, _WEIGHT),
        ]
        of_both: list[tuple[str, str, _Change, dict[str, Any]]] = [
            ("pause", "Gives no leases until it is resumed; requests wait.", _pause, {}),
            ("resume", "Ends a pause.", _resume, {}),
            ("invalidate", "Replaces all present connections.", _invalidate, {}),
            ("resize", "Changes the limit of connections.", _resize, _LIMIT),
        ]
        for name, about, change, takes in of_backends + of_both:
            yield Route(
                f"/api/v1/groups/{{group}}/backends/{{backend}}/{name}",
                about,
                self._at_backend(name, change),
                ref("BackendOutcome"),
                takes,
                changes=True,
            )
        for name, about, change, takes in of_both:
            yield Route(
                f"/api/v1/groups/{{group}}/{name}",
                f"At every backend of a group: {about[0].lower()}{about[1:]}",
                self._at_group(name, change),
                ref("GroupOutcome"),
                takes,
                changes=True,
            )
        yield Route(
            "/api/v1/listeners/{listener}/clients/{number}/close",
            "Closes a client at once, with the backend connection that it has.",
            self._close,
            ref("Outcome"),
            changes=True,
        )

    def _at_backend(self, name: str, change: _Change) -> Callable[[Call], Answer]:
        def serve(call: Call) -> Answer:
            group = self._finder.running_group(call.names["group"])
            backend, label = self._finder.backend(group, call.names["backend"])
            done = _changed(name, change, call, group, backend)
            shown = self._snapshot.backend(group, backend, label, call.names["group"])
            return answer({"done": done, "backend": shown})

        return serve

    def _at_group(self, name: str, change: _Change) -> Callable[[Call], Answer]:
        def serve(call: Call) -> Answer:
            group = self._finder.running_group(call.names["group"])
            done = _changed(name, change, call, group, None)
            return answer({"done": done, "group": self._snapshot.group(call.names["group"], group)})

        return serve

    def _close(self, call: Call) -> Answer:
        listener = self._finder.listener(call.names["listener"])
        text = call.names["number"]
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
        if not listener.front.close_client(number):
            raise Problem(404, f"no client {text[:40]!r}; see the clients of the listener")
        done = f"client {number} is closed"
        _log.info(
            "{who}: listener {listener}: {done}",
            who=call.who,
            listener=call.names["listener"],
            done=done,
        )
        return answer({"done": done})


def _changed(
    name: str, change: _Change, call: Call, group: RunningGroup, backend: Backend | None
) -> str:
    """Make a change, and log it.

    @return: what was done.
    @raise Problem: it cannot be done.
    """
    try:
        done = change(call, group, backend)
    except ValueError as error:
        raise Problem(422, str(error)) from None
    except KolusError as error:
        raise Problem(409, str(error)) from None
    at = "" if backend is None else f"backend {backend} of "
    _log.info(
        "{who}: {name} {at}group {group}: {done}",
        who=call.who,
        name=name,
        at=at,
        backend=backend,
        group=call.names["group"],
        done=done,
    )
    return done


def _drain(call: Call, group: RunningGroup, backend: Backend | None) -> str:
    group.pool.eject(backend)
    group.pool.drain(backend)
    (status,) = group.pool.status([backend])
    if not status.leased:
        return "ejected; no lease is held"
    return f"ejected; it is drained when {status.leased} leases are settled"


def _eject(call: Call, group: RunningGroup, backend: Backend | None) -> str:
    group.pool.eject(backend)
    return "ejected until it is admitted"


def _admit(call: Call, group: RunningGroup, backend: Backend | None) -> str:
    group.pool.admit(backend)
    return "admitted"


def _pause(call: Call, group: RunningGroup, backend: Backend | None) -> str:
    group.pool.pause(backend)
    return "paused until it is resumed"


def _resume(call: Call, group: RunningGroup, backend: Backend | None) -> str:
    group.pool.resume(backend)
    return "resumed"


def _invalidate(call: Call, group: RunningGroup, backend: Backend | None) -> str:
    group.pool.invalidate(backend)
    return "idle connections are closed now, leased ones when they are settled"


def _resize(call: Call, group: RunningGroup, backend: Backend | None) -> str:
    limit = call.whole("limit")
    group.pool.resize(limit, backend)
    return f"the limit is {limit}"


def _weight(call: Call, group: RunningGroup, backend: Backend | None) -> str:
    assert backend is not None
    weight = call.number("weight")
    group.set_weight(backend, weight)
    return f"the weight is {weight:g}"
