"""Runs the programs of the documentation as its reader would."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twisted.internet.utils import getProcessOutputAndValue

from tests.rigs.pages import ROOT, Block, pages

__all__ = ["FRAGMENTS", "PROGRAMS", "TESTS", "printed_by"]

BLOCKS = [block for page in pages() for block in page.blocks]
PROGRAMS = [block for block in BLOCKS if block.is_program]
TESTS = [block for block in BLOCKS if block.is_test]
FRAGMENTS = [block for block in BLOCKS if block.is_fragment]


async def printed_by(
    block: Block, folder: Path, changes: dict[str, str], environment: dict[str, str] | None = None
) -> str:
    """What a program prints; it must succeed, and complain about nothing.

    @param changes: what is written otherwise, such as the port of a server.
    """
    text = block.text
    for theirs, ours in changes.items():
        assert theirs in text, f"{block} has no {theirs}"
        text = text.replace(theirs, ours)
    program = folder / "program.py"
    program.write_text(text, encoding="utf-8")
    # Twisted's readBody warns of the transport of any pool.
    more = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    out, err, status = await getProcessOutputAndValue(
        sys.executable, [str(program)], env=os.environ | more | (environment or {})
    )
    assert (err.decode(), status) == ("", 0)
    return out.decode()
