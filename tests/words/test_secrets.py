"""What hides secrets in texts: it may be given any text, of a peer too."""

from __future__ import annotations

import time

import pytest

from kolus.errors import hide_secrets


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_text_that_a_peer_chose_takes_no_time(quote: str) -> None:
    began = time.process_time()
    assert "\\" not in hide_secrets(f"password={quote}" + "\\" * 33)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (r"password='it\'s'; host=a", "password=***; host=a"),
        ("PWD=x;port=1", "PWD=***;port=1"),
        ("no secret: here", "no secret: ***"),
        ("host=a", "host=a"),
        ("Authorization: Bearer eyJ0.x", "Authorization: ***"),
        ("{'Authorization': 'Basic eDp5'}", "{'Authorization': ***}"),
        ("aws_access_key=AK1 port=1", "aws_access_key=*** port=1"),
        ("private-key: x", "private-key: ***"),
        ("private_key='x y'", "private_key=***"),
        ("user=me pass=hunter2", "user=me pass=***"),
        ("pass: the test passed; author=me", "pass: the test passed; author=me"),
    ],
)
def test_the_value_of_a_secret_is_hidden_and_no_other(text: str, hidden: str) -> None:
    assert hide_secrets(text) == hidden
