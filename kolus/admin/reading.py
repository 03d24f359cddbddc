"""The calls that read: status, explanation, clients."""

from __future__ import annotations

from collections.abc import Iterator

from kolus.admin.call import Answer, Call, answer
from kolus.admin.finder import Finder
from kolus.admin.routes import Route
from kolus.admin.schemas import array, ref
from kolus.admin.snapshot import Snapshot

__all__ = ["Reading"]


class Reading:
    """Serves the calls that only read."""

    def __init__(self, finder: Finder, snapshot: Snapshot) -> None:
        self._finder = finder
        self._snapshot = snapshot

    def routes(self) -> Iterator[Route]:
        yield Route(
            "/api/v1/status",
            "All groups and listeners, with their numbers.",
            lambda call: answer(self._snapshot.everything()),
            ref("Status"),
        )
        yield Route(
            "/api/v1/explain",
            "The leases and waiters of every manager, and why these wait.",
            lambda call: answer(self._snapshot.explanation()),
            ref("Explanation"),
        )
        yield Route(
            "/api/v1/groups/{group}",
            "One group, with its backends and managers.",
            self._group,
            ref("Group"),
        )
        yield Route(
            "/api/v1/groups/{group}/backends/{backend}",
            "One backend of a group.",
            self._backend,
            ref("Backend"),
        )
        yield Route(
            "/api/v1/listeners/{listener}",
            "One listener.",
            self._listener,
            ref("Listener"),
        )
        yield Route(
            "/api/v1/listeners/{listener}/clients",
            "The clients of a listener, the oldest first.",
            self._clients,
            array(ref("Client")),
        )

    def _group(self, call: Call) -> Answer:
        name = call.names["group"]
        return answer(self._snapshot.group(name, self._finder.group(name)))

    def _backend(self, call: Call) -> Answer:
        return answer(self._snapshot.backend_named(call.names["group"], call.names["backend"]))

    def _listener(self, call: Call) -> Answer:
        name = call.names["listener"]
        return answer(self._snapshot.listener(name, self._finder.listener(name)))

    def _clients(self, call: Call) -> Answer:
        return answer(self._snapshot.clients(self._finder.listener(call.names["listener"])))
