"""C{Spans}: an observer that makes spans of OpenTelemetry: C{kolus[otel]}.

An event tells how long something took when it is over. So each span is made at its end, and begins
in the past. It has no state.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, get_tracer

from kolus.errors import describe
from kolus.events import (
    Cancelled,
    Connected,
    ConnectFailure,
    Ejected,
    Event,
    Leased,
    Rejection,
    Settled,
    TimedOut,
)

__all__ = ["Spans"]


class Spans:
    """C{Pool(..., observers=[Spans()])} makes these spans, all with the attribute C{kolus.backend}:

      - C{kolus.wait}: a request in the queue, until its lease, its time-out or its cancelling.
      - C{kolus.connect}: a connect; one that failed has the error, and no length.
      - C{kolus.lease}: a lease, with C{kolus.settled}: how it was settled.
      - C{kolus.reject} and C{kolus.eject}: a refused request, an ejected backend; no length.

    A span's parent is the current span, which is the caller's if it happens within his call.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        """
        @param tracer: makes the spans; C{None}: that of the global provider.
        """
        self._tracer = tracer or get_tracer("kolus")

    def __call__(self, event: Event) -> None:
        if isinstance(event, Settled):
            how = type(event).__name__.lower()
            self._span("lease", event, event.held, attributes={"kolus.settled": how})
        elif isinstance(event, Leased):
            if event.queued:
                self._span("wait", event, event.waited, attributes={"kolus.reused": event.reused})
        elif isinstance(event, Connected):
            self._span("connect", event, event.took)
        elif isinstance(event, ConnectFailure | Rejection):
            name = "connect" if isinstance(event, ConnectFailure) else "reject"
            self._span(name, event, 0.0, describe(event.reason))
        elif isinstance(event, TimedOut):
            self._span("wait", event, event.waited, "timed out")
        elif isinstance(event, Cancelled):
            self._span("wait", event, event.waited, attributes={"kolus.cancelled": True})
        elif isinstance(event, Ejected):
            self._span("eject", event, 0.0, event.reason)

    def _span(
        self,
        name: str,
        event: Event,
        seconds: float,
        error: str = "",
        attributes: Mapping[str, str | bool] | None = None,
    ) -> None:
        end = time.time_ns()
        span = self._tracer.start_span(
            f"kolus.{name}",
            kind=SpanKind.CLIENT if name == "connect" else SpanKind.INTERNAL,
            attributes={"kolus.backend": str(event.backend), **(attributes or {})},
            start_time=end - int(seconds * 1e9),
        )
        if error:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(end)
