"""Every byte that a direct connection delivers is delivered through the front, too."""

from __future__ import annotations

import os
import sys

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_every_byte_that_a_direct_connection_delivers_is_delivered() -> None:
    arguments = ["-m", "tests.net.integrity", "--connections", "250", "--seed", "12"]
    out, err, status = await getProcessOutputAndValue(
        sys.executable, arguments, env=dict(os.environ), reactor=reactor
    )
    assert (status, out.decode(), err.decode()[-2000:]) == (
        0,
        "seed 12\n250 connections, 0 faults\n",
        "",
    )
