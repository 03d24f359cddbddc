"""C{Route}: one call of the API, and C{Routes}: finds the call that a path means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kolus.admin.call import Answer, Call
from kolus.admin.problem import Problem

__all__ = ["Route", "Routes"]


@dataclass(frozen=True, slots=True)
class Route:
    """A path, a method, and who serves it.

    @ivar path: with names in braces: C{/api/v1/groups/{group}}.
    @ivar about: one sentence for the description.
    @ivar gives: the JSON schema of the answer; a media type if it is no JSON.
    @ivar takes: the JSON schemas of the fields of the body. All are required.
    @ivar changes: whether it changes something: then it is a C{POST}, else a C{GET}.
    """

    path: str
    about: str
    serve: Callable[[Call], Answer]
    gives: dict[str, Any] | str
    takes: dict[str, dict[str, Any]] = field(default_factory=dict)
    changes: bool = False

    @property
    def method(self) -> str:
        return "POST" if self.changes else "GET"

    @property
    def parts(self) -> list[str]:
        return self.path.strip("/").split("/")


class Routes:
    """All calls of the API."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.all = tuple(routes)

    def find(self, method: str, parts: Sequence[str]) -> tuple[Route, dict[str, str]]:
        """
        @param parts: the parts of the path, decoded.
        @return: the route, and the names in the path.
        @raise Problem: there is none, or none with that method.
        """
        allowed = []
        for route in self.all:
            names = _names(route.parts, parts)
            if names is None:
                continue
            if method == route.method or (method == "HEAD" and route.method == "GET"):
                return route, names
            allowed.append(route.method)
        if allowed:
            methods = ", ".join(["GET, HEAD" if each == "GET" else each for each in allowed])
            raise Problem(405, f"use {methods} here, not {method[:20]}", {"Allow": methods})
        raise Problem(404, "there is nothing here; see /api/v1/openapi.json")


def _names(template: Sequence[str], parts: Sequence[str]) -> dict[str, str] | None:
    if len(template) != len(parts):
        return None
    names = {}
    for wanted, given in zip(template, parts, strict=True):
        if wanted.startswith("{"):
            names[wanted.strip("{}")] = given
        elif wanted != given:
            return None
    return names
