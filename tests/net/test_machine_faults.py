"""A process that really lacks descriptors or threads, over real sockets and real names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.net.child import CHECKOUT
from tests.rigs.patience import PATIENCE

pytestmark = pytest.mark.long

NAMED = ["a name", "tls with a name", "HostnameEndpoint"]
KINDS = [*NAMED, "tcp", "unix", "tls", "ssl", "TCP4ClientEndpoint"]


@pytest.mark.parametrize(
    ("lacking", "kind"),
    [("descriptors", kind) for kind in KINDS]
    + [(threads, kind) for threads in ("threads", "idle threads") for kind in NAMED],
)
def test_what_a_process_lacks_is_told_and_held_against_no_backend(lacking: str, kind: str) -> None:
    command = [sys.executable, "-m", "tests.net.lacking_program", lacking, kind]
    ended = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.stdout.splitlines() == [
        "0 ejections, every error names what is lacking: True",
        "used again: in time",
    ], ended.stderr
