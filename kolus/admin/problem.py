"""C{Problem}: why a request is not served, as JSON problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from kolus.support import nearest

__all__ = ["Problem", "unknown"]


class Problem(Exception):
    """A request is not served.

    @ivar status: the status of the answer.
    @ivar detail: what was wrong, and what to write instead.
    @ivar headers: more headers of the answer.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}

    def value(self) -> dict[str, object]:
        title = HTTPStatus(self.status).phrase
        return {
            "type": "about:blank",
            "title": title,
            "status": self.status,
            "detail": self.detail,
        }


def unknown(kind: str, name: str, known: Iterable[str]) -> Problem:
    """There is nothing of that name."""
    names = sorted(known)
    near = nearest(name, names)
    if near is not None:
        hint = f"did you mean {near}?"
    elif names:
        others = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        hint = f"there are: {others}"
    else:
        hint = "there is none"
    return Problem(404, f"no {kind} {name!r}; {hint}")
