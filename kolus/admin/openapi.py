"""The OpenAPI description of the admin server, made from its routes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from kolus.admin.routes import Route
from kolus.admin.schemas import ANSWERS, ref

__all__ = ["description"]

_REFUSALS = {
    "400": "The request or its body cannot be read.",
    "403": "It is not allowed: the address is read-only, or a foreign page asks.",
    "404": "There is nothing of that name.",
    "421": "The Host header is no name of this server.",
}
_REFUSED_CHANGES = {
    "401": "The token is missing or wrong.",
    "409": "It cannot be done now.",
    "413": "The body is too long.",
    "415": "The body is not declared as JSON.",
    "422": "A field is wrong.",
}


def description(routes: Iterable[Route]) -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kolus",
            "version": "1",
            "description": "Shows and steers a running twistd kolus.",
        },
        "paths": paths,
        "components": {
            "schemas": ANSWERS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    refusals = _REFUSALS | (_REFUSED_CHANGES if route.changes else {})
    problem = {"application/problem+json": {"schema": ref("Problem")}}
    if isinstance(route.gives, str):
        content: dict[str, Any] = {route.gives: {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": route.gives}}
    operation: dict[str, Any] = {
        "operationId": _name_of(route),
        "summary": route.about,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"\{(\w+)\}", route.path)
        ],
        "responses": {
            "200": {"description": "Done." if route.changes else "The values.", "content": content},
            **{
                status: {"description": about, "content": problem}
                for status, about in sorted(refusals.items())
            },
        },
    }
    if route.changes:
        operation["security"] = [{}, {"token": []}]
        operation["requestBody"] = {
            "required": True,  # with its Content-Type, which no form of another site can send
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": route.takes,
                        "required": list(route.takes),
                        "additionalProperties": False,
                    }
                }
            },
        }
    return operation


def _name_of(route: Route) -> str:
    parts = [each.strip("{}") for each in route.parts if each not in ("api", "v1")]
    return "_".join([route.method.lower(), *parts]).replace(".", "_")
