"""Counters as values."""

from __future__ import annotations

from kolus.status import Counters


def test_counters_add_up_field_by_field() -> None:
    total = Counters(leases=2, releases=1) + Counters(leases=3, timeouts=4)
    assert total == Counters(leases=5, releases=1, timeouts=4)
