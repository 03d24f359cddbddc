"""The settings of the daemon are checked when they are made."""

from __future__ import annotations

from typing import Any

import pytest

from kolus.config import AdminSettings, GroupSettings


@pytest.mark.parametrize("value", [1, None, "no"])
def test_a_setting_that_is_neither_true_nor_false_is_refused_and_named(value: Any) -> None:
    for name in ("wait_for_source", "fail_fast"):
        with pytest.raises(ValueError, match=f"^{name} must be True or False, not {value!r}"):
            GroupSettings(**{name: value})
    with pytest.raises(ValueError, match=f"^allow_remote must be True or False, not {value!r}"):
        AdminSettings(listen=("unix:/run/kolus/admin",), allow_remote=value)
