"""C{MetricsPage}: serves a registry by twisted.web, in the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from twisted.web.resource import Resource

from kolus.prometheus.families import Family

__all__ = ["MetricsPage", "exposition", "exposition_pieces"]

_PIECE = 100
"""Samples that are made text at a time, in less than a millisecond."""
_END = b"# EOF\n"


def exposition(registry: Any, accept: str = "") -> tuple[bytes, str]:
    """All metrics of a registry as text.

    @param accept: the header C{Accept} of the scraper, which chooses the format.
    @return: the text, and its content type.
    """
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def exposition_pieces(families: Iterable[Family], accept: str = "") -> tuple[Iterator[bytes], str]:
    """As C{exposition}, but in pieces, so that other work can be done between two of them."""
    encode, content_type = choose_encoder(accept)
    return _pieces(families, encode), content_type


def _pieces(families: Iterable[Family], encode: Callable[[Any], bytes]) -> Iterator[bytes]:
    end = b""
    for family in families:
        metric, is_begun = family.metric, False
        for _ in family.adding:
            if len(metric.samples) < _PIECE:
                yield b""
                continue
            text, end = _encoded(metric, encode)
            yield _samples(text) if is_begun else text
            metric.samples.clear()
            is_begun = True
        if metric.samples or not is_begun:
            text, end = _encoded(metric, encode)
            yield _samples(text) if is_begun else text
    yield end


def _encoded(metric: Metric, encode: Callable[[Any], bytes]) -> tuple[bytes, bytes]:
    """The text of a family, and the end that a format puts after the last one."""
    text = encode(_Registry(metric))
    return (text.removesuffix(_END), _END) if text.endswith(_END) else (text, b"")


def _samples(text: bytes) -> bytes:
    """Without the lines about the family, which are there already."""
    lines = text.splitlines(keepends=True)
    return b"".join([each for each in lines if not each.startswith(b"#")])


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
