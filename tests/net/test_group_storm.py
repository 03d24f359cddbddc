"""The short form of the group storm."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.net.group_storm import GroupStorm, Plan

pytestmark = pytest.mark.long


@pytest.mark.time_limit(120.0)
@pytest_twisted.ensureDeferred
async def test_losing_one_server_of_three_costs_no_more_than_was_out_on_it(
    redis_binary: str, tmp_path: Path
) -> None:
    storm = GroupStorm(reactor, redis_binary, tmp_path, Plan(seconds=1.0, seed=3), print)
    await storm.run()
    assert storm.violations == []
