"""The lines of the keys in a TOML file."""

from __future__ import annotations

from kolus.config.lines import lines_of


def test_keys_tables_and_entries_of_lists_have_the_line_where_they_begin() -> None:
    text = '# one\na = 1\n\n[b]\nc = [\n  "x",\n  "y",  # two\n]\n"d.e" = 2\n'
    text += "[[f]]\ng = 3\n[[f]]\nh = 4\n"
    found = lines_of(text)
    assert found[("a",)] == 2
    assert found[("b",)] == 4
    assert found[("b", "c", 0)] == 6
    assert found[("b", "c", 1)] == 7
    assert found[("b", "d.e")] == 9
    assert found[("f", 0, "g")] == 11
    assert found[("f", 1, "h")] == 13
