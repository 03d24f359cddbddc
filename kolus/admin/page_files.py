"""The page for operators: its files, and the routes that serve them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from kolus.admin.call import Answer
from kolus.admin.routes import Route

__all__ = ["page_routes"]

_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "txt": "text/plain"}
_FILES = (
    "page.css",
    "page.js",
    "api.js",
    "clients.js",
    "history.js",
    "plots.js",
    "view.js",
    "uPlot.iife.min.js",
    "uPlot.min.css",
    "uPlot.LICENSE.txt",
)


def page_routes() -> Iterator[Route]:
    """The page at C{/}, and the files that it loads. They are read once, here."""
    yield _route("/", "index.html", "The page for operators.")
    for name in _FILES:
        yield _route(f"/page/{name}", name, "A file of the page.")


def _route(path: str, name: str, about: str) -> Route:
    kind = f"{_KINDS[name.rpartition('.')[2]]}; charset=utf-8"
    body = files("kolus.admin").joinpath("page", name).read_bytes()
    return Route(path, about, lambda call: Answer((body,), kind), kind.partition(";")[0])
