"""C{kolus.aio}, in processes that run asyncio's reactor."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from kolus import aio
from tests.rigs.loops import run_in_a_loop
from tests.rigs.patience import PATIENCE

SCENES = Path(__file__).with_name("aio_scenes.py")


def names_of_scenes() -> list[str]:
    """The functions marked with C{scene}; importing them would install a reactor."""
    functions = ast.parse(SCENES.read_text()).body
    return [
        each.name
        for each in functions
        if isinstance(each, ast.AsyncFunctionDef) and each.decorator_list
    ]


@pytest.mark.long
@pytest.mark.parametrize("name", names_of_scenes())
def test_in_an_asyncio_task(name: str) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.clients.aio_scenes", name]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""


def test_the_wrong_loop_is_an_error_that_says_what_to_write() -> None:
    from twisted.internet import reactor  # noqa: F401

    with pytest.raises(RuntimeError, match=r"asyncioreactor\.install"):
        run_in_a_loop(aio.connect(None))
