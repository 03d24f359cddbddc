"""C{Spans}: which spans it makes, how long they are, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, LeaseTimeout, Policy, Pool
from kolus.otel import Spans
from kolus.testing import FakeBackend, result_of


class Traced:
    """A pool with one connection, whose spans are kept."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.backend = Backend(self.fake, name="a")
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        spans = Spans(self.provider.get_tracer("test"))
        policy = Policy(limit=1, max_waiters=1)
        self.pool: Pool[Any] = Pool(self.clock, Protocol, policy=policy, observers=[spans])

    def spans(self, name: str) -> Sequence[ReadableSpan]:
        return [each for each in self.exporter.get_finished_spans() if each.name == name]

    def end(self) -> None:
        closed = self.pool.close(0)
        self.clock.pump([0, 0, 60])
        result_of(closed)
        self.provider.shutdown()


def length(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_a_lease_its_wait_and_its_connect_are_spans_of_the_right_length() -> None:
    traced = Traced()
    traced.fake.accept(after=0.5)
    first = traced.pool.connect("us", traced.backend)
    traced.clock.advance(0.5)
    second = traced.pool.connect("us", traced.backend)
    traced.clock.advance(2)
    result_of(first).release()
    result_of(second).finished()
    (connect,) = traced.spans("kolus.connect")
    assert length(connect) == pytest.approx(0.5)
    assert [length(each) for each in traced.spans("kolus.wait")] == pytest.approx([0.5, 2])
    leases = traced.spans("kolus.lease")
    assert [length(each) for each in leases] == pytest.approx([2, 0])
    assert [dict(each.attributes or {}) for each in leases] == [
        {"kolus.backend": "a", "kolus.settled": "released"},
        {"kolus.backend": "a", "kolus.settled": "finished"},
    ]
    traced.end()


def test_what_fails_has_the_error() -> None:
    traced = Traced()
    traced.pool.eject(traced.backend)
    traced.fake.refuse()
    refused = traced.pool.connect("us", traced.backend)
    refused.addErrback(lambda failure: None)
    traced.clock.pump([0, 5])
    lease = result_of(traced.pool.connect("us", traced.backend))
    late = traced.pool.connect("us", traced.backend, timeout=1)
    late.addErrback(lambda failure: failure.trap(LeaseTimeout))
    full = traced.pool.connect("us", traced.backend)
    full.addErrback(lambda failure: None)
    traced.clock.advance(1)
    lease.release()
    failed = [
        (each.name, bool(each.status.description))
        for each in traced.exporter.get_finished_spans()
        if not each.status.is_ok and each.status.description
    ]
    assert set(failed) == {
        ("kolus.connect", True),
        ("kolus.wait", True),
        ("kolus.reject", True),
        ("kolus.eject", True),
    }
    traced.end()


def test_what_is_served_at_once_has_no_wait() -> None:
    traced = Traced()
    result_of(traced.pool.connect("us", traced.backend)).release()
    before = len(traced.spans("kolus.wait"))
    result_of(traced.pool.connect("us", traced.backend)).release()
    assert len(traced.spans("kolus.wait")) == before
    traced.end()
