"""The description of the admin API, held against a running daemon by schemathesis."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.net.child import LISTEN, twistd
from tests.rigs.patience import PATIENCE

_HOW = (
    *("--exclude-path=/api/v1/events", "--max-examples=10", "--phases=coverage,fuzzing"),
    *("--seed=7", "--generation-deterministic", "--no-color", "--workers=1"),
)
"""The stream of events never ends, so it is not asked for."""


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_whatever_is_asked_the_api_answers_as_it_is_described() -> None:
    if importlib.util.find_spec("schemathesis") is None:
        lacking = "needs pip install 'kolus[e2e]'"
        if os.environ.get("KOLUS_REQUIRE_SERVERS"):
            pytest.fail(lacking)
        pytest.skip(lacking)
    with TemporaryDirectory() as folder:
        token = Path(folder) / "token"
        token.write_text("open sesame\n")
        admin = ("--admin-listen=tcp:0:interface=127.0.0.1", f"--admin-token-file={token}")
        async with twistd(reactor, *LISTEN, *admin, "--backend=tcp:127.0.0.1:9") as child:
            port = (await child.seen(r"kolus admin listens on 127.0.0.1:(\d+)"))[1]
            await child.port()
            ended = await deferToThread(_ask_all, port, folder)
            assert ended.returncode == 0, ended.stdout + ended.stderr
            assert "Tested: 31" in ended.stdout
            assert "Traceback" not in child.output


def _ask_all(port: str, folder: str) -> subprocess.CompletedProcess[str]:
    url = f"http://127.0.0.1:{port}/api/v1/openapi.json"
    header = "--header=Authorization: Bearer open sesame"
    program = "from schemathesis.cli import schemathesis; schemathesis()"
    command = [sys.executable, "-c", program, "run", url, header, *_HOW]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=4 * PATIENCE, check=False
    )
