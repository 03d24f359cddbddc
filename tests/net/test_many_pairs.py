"""The short form of the program of many pairs."""

from __future__ import annotations

import pytest

from tests.net.many_pairs import ManyPairs


@pytest.mark.long
def test_many_clients_at_the_same_time_have_each_a_backend_and_leave_nothing() -> None:
    pairs = ManyPairs(400, print)
    pairs.run()
    assert pairs.faults == []
