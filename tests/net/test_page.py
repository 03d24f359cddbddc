"""The page for operators, in a real browser."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

from tests.net.child import CHECKOUT
from tests.rigs.patience import PATIENCE


@pytest.mark.long
def test_an_operator_sees_and_steers_the_daemon_on_its_page() -> None:
    chromium = shutil.which("chromium")
    if chromium is None or importlib.util.find_spec("playwright") is None:
        lacking = "needs Debian's chromium, and pip install 'kolus[e2e]'"
        if os.environ.get("KOLUS_REQUIRE_SERVERS"):
            pytest.fail(lacking)
        pytest.skip(lacking)
    command = [sys.executable, "-m", "tests.net.page_program", chromium]
    ended = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
    )
    assert ended.stdout.splitlines() == [
        "rows, rates, plots and events are live",
        "a certificate that is about to expire is told",
        "a backend is ejected with the token, and not without",
        "the keyboard admits and resizes, and a bar says what it shows",
        "the keyboard closes one client, and the outcome is told",
        "the clients of a listener are not mixed with those that were shown before",
        "a phone shows it without scrolling sideways",
        "it is dark for those who want it so",
        "it is true again after the daemon was restarted",
    ], ended.stderr
