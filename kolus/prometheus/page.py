"""C{MetricsPage}: serves a registry by twisted.web, in the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from typing import Any

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from twisted.web.resource import Resource

__all__ = ["MetricsPage", "exposition", "exposition_pieces"]

_PIECE = 500
"""Samples that are made text at a time, in some milliseconds."""
_END = b"# EOF\n"


def exposition(registry: Any, accept: str = "") -> tuple[bytes, str]:
    """All metrics of a registry as text.

    @param accept: the header C{Accept} of the scraper, which chooses the format.
    @return: the text, and its content type.
    """
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def exposition_pieces(metrics: Iterable[Metric], accept: str = "") -> tuple[Iterator[bytes], str]:
    """As C{exposition}, but in pieces: who makes one after the other can do other things between.

    @param metrics: as a collector gives them.
    """
    encode, content_type = choose_encoder(accept)
    return _pieces(metrics, encode), content_type


def _pieces(metrics: Iterable[Metric], encode: Callable[[Any], bytes]) -> Iterator[bytes]:
    end = b""
    for metric in metrics:
        for first in range(0, len(metric.samples) or 1, _PIECE):
            part = copy(metric)
            part.samples = metric.samples[first : first + _PIECE]
            text = encode(_Registry(part))
            if text.endswith(_END):
                text, end = text.removesuffix(_END), _END
            if first:  # the lines about the family are there already
                lines = text.splitlines(keepends=True)
                text = b"".join([each for each in lines if not each.startswith(b"#")])
            yield text
    yield end


class _Registry:
    """A registry of one family, as encoders take it."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> list[Metric]:
        return [self._metric]


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
