"""The short form of the chaos program."""

from __future__ import annotations

import pytest

from tests.net.chaos import Chaos


@pytest.mark.long
def test_no_byte_is_lost_while_backends_die_settings_change_and_a_process_takes_over() -> None:
    chaos = Chaos(seconds=16.0, connections=2500, write=print)
    chaos.run()
    assert chaos.faults == []
