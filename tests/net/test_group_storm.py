"""The short form of the group storm."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.net.group_storm import GroupStorm, Plan

pytestmark = pytest.mark.long


@pytest_twisted.ensureDeferred
async def test_losing_one_server_of_three_costs_no_more_than_was_out_on_it(
    redis_binary: str, tmp_path: Path
) -> None:
    plan = Plan(seconds=1.0, callers=100, seed=3)
    storm = GroupStorm(reactor, redis_binary, tmp_path, plan, print)
    await storm.run()
    assert storm.violations == []
