"""The short form of the soak."""

from __future__ import annotations

import os
import sys

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue

_ON_THIS_REACTOR = """
from runpy import run_module
from {} import install
install()
run_module("tests.net.soak", run_name="__main__", alter_sys=True)
"""


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_no_slot_no_reply_and_no_count_is_lost_in_a_storm() -> None:
    program = _ON_THIS_REACTOR.format(type(reactor).__module__)
    out, err, status = await getProcessOutputAndValue(
        sys.executable,
        ["-c", program, "--seconds", "15", "--seed", "3"],
        env=dict(os.environ),  # its memory is its own: other tests leave some to be freed
        reactor=reactor,
    )
    assert (status, err.decode()[-2000:]) == (0, ""), out.decode()[-5000:]
