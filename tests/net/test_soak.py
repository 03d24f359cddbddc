"""The short form of the soak."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.net.soak import Plan, Soak

pytestmark = pytest.mark.long


@pytest.mark.time_limit(120.0)
@pytest_twisted.ensureDeferred
async def test_no_slot_no_reply_and_no_count_is_lost_in_a_storm(
    redis_binary: str, tmp_path: Path
) -> None:
    soak = Soak(reactor, redis_binary, tmp_path, Plan(seconds=15.0, seed=3), print)
    await soak.run()
    assert soak.violations == []
