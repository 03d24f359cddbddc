"""C{AdminResource}: takes each request of one place of listening to the call that it means."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from kolus.admin.call import Answer, Call, joined, json_bytes
from kolus.admin.guard import Guard
from kolus.admin.problem import Problem
from kolus.admin.routes import Route, Routes
from kolus.admin.stream import Streams

__all__ = ["EVENTS", "AdminResource"]

_log = Logger()

EVENTS = "text/event-stream"
"""What a route gives that is a stream."""

_SAFE = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
}


class AdminResource(Resource):
    """Serves all paths of one place of listening, each by its route."""

    isLeaf = True

    def __init__(self, routes: Routes, guard: Guard, streams: Streams) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._routes = routes
        self._guard = guard
        self._streams = streams

    def render(self, request: Any) -> int:
        for name, value in _SAFE.items():
            request.setHeader(name.encode(), value.encode())
        request.setHeader(b"server", b"kolus")
        try:
            self._serve(request)
        except Problem as problem:
            _write_problem(request, problem)
        except Exception:
            _failed(Failure(), request)
        return NOT_DONE_YET

    def _serve(self, request: Any) -> None:
        host = _header(request, "host")
        self._guard.check_read(host, _header(request, "sec-fetch-site"))
        method = request.method.decode("ascii", "replace")
        route, names = self._routes.find(method, _parts(request.path))
        call = Call(names, _who(request), _header(request, "accept") or "")
        if route.changes:
            origin, kind = _header(request, "origin"), _header(request, "content-type")
            authorization = _header(request, "authorization")
            self._guard.check_change(host, origin, kind, authorization)
            call.read(request.content.read(), tuple(route.takes))
        if route.gives == EVENTS and method == "GET":
            self._streams.follow(request, _header(request, "last-event-id"))
            return
        answer = _answer(route, call)
        whole = self._streams.long_work.do(joined(answer.pieces))
        request.notifyFinish().addErrback(lambda _: whole.cancel())  # the client has left
        whole.addCallback(partial(_write, request, answer.content_type, answer.status))
        whole.addErrback(_failed, request)


def _failed(failure: Failure, request: Any) -> None:
    if not failure.check(CancelledError):  # then nobody waits for it
        _log.failure("the admin server failed at {path!r}", failure, path=request.path)
        _write_problem(request, Problem(500, "a fault of kolus; the log has the traceback"))


def _answer(route: Route, call: Call) -> Answer:
    if route.gives == EVENTS:
        return Answer((), EVENTS)
    return route.serve(call)


def _parts(path: bytes) -> list[str]:
    """
    @raise Problem: the path is no UTF-8.
    """
    try:
        parts = path.decode("ascii").strip("/").split("/")
        return [unquote(each, errors="strict") for each in parts]
    except UnicodeDecodeError:
        raise Problem(400, "the path must be percent-encoded UTF-8") from None


def _header(request: Any, name: str) -> str | None:
    """A header; that comes twice counts as one that is wrong."""
    values = request.requestHeaders.getRawHeaders(name.encode()) or []
    if len(values) > 1:
        raise Problem(400, f"the header {name} is given twice")
    return values[0].decode("utf-8", "replace") if values else None


def _who(request: Any) -> str:
    peer = request.getClientAddress()
    host = getattr(peer, "host", None)
    return "admin over the UNIX socket" if host is None else f"admin from {host}:{peer.port}"


def _write_problem(request: Any, problem: Problem) -> None:
    for name, value in problem.headers.items():
        request.setHeader(name.lower().encode(), value.encode())
    body = json_bytes(problem.value()) + b"\n"
    _write(request, "application/problem+json", problem.status, body)


def _write(request: Any, content_type: str, status: int, body: bytes) -> None:
    request.setResponseCode(status, HTTPStatus(status).phrase.encode())
    request.setHeader(b"content-type", content_type.encode())
    request.setHeader(b"content-length", str(len(body)).encode())
    request.write(body)
    request.finish()
