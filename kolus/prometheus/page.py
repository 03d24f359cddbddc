"""C{MetricsPage}: serves a registry by twisted.web, in the reactor's thread."""

from __future__ import annotations

from typing import Any

from prometheus_client.exposition import choose_encoder
from twisted.web.resource import Resource

__all__ = ["MetricsPage", "exposition"]


def exposition(registry: Any, accept: str = "") -> tuple[bytes, str]:
    """All metrics of a registry as text.

    @param accept: the header C{Accept} of the scraper, which chooses the format.
    @return: the text, and its content type.
    """
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class MetricsPage(Resource):
    """A resource for the metrics: C{root.putChild(b"metrics", MetricsPage(REGISTRY))}."""

    isLeaf = True

    def __init__(self, registry: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._registry = registry

    def render_GET(self, request: Any) -> bytes:
        text, content_type = exposition(self._registry, request.getHeader("accept") or "")
        request.setHeader(b"content-type", content_type.encode())
        return text
