"""The lines of the keys in a TOML file."""

from __future__ import annotations

from kolus.config.lines import Lines
from kolus.config.mistakes import Path
from kolus.support import at_once


def line_of(lines: Lines, path: Path) -> int:
    return at_once(lines.of(path))


def test_keys_tables_and_entries_of_lists_have_the_line_where_they_begin() -> None:
    text = '# one\na = 1\n\n[b]\nc = [\n  "x",\n  "y",  # two\n]\n"d.e" = 2\n'
    text += "[[f]]\ng = 3\n[[f]]\nh = 4\n"
    lines = Lines(text)
    assert line_of(lines, ("a",)) == 2
    assert line_of(lines, ("b",)) == 4
    assert line_of(lines, ("b", "c", 0)) == 6
    assert line_of(lines, ("b", "c", 1)) == 7
    assert line_of(lines, ("b", "d.e")) == 9
    assert line_of(lines, ("f", 0, "g")) == 11
    assert line_of(lines, ("f", 1, "h")) == 13


def test_what_is_not_there_has_the_line_of_what_is_around_it() -> None:
    lines = Lines('[b]\nc = [\n  "x",\n]\n')
    assert line_of(lines, ("b", "c", 7)) == 2
    assert line_of(lines, ("b", "d")) == 1
    assert line_of(lines, ("e", "f")) == 1


def test_a_value_of_many_lines_that_looks_like_keys_hides_none() -> None:
    lines = Lines('a = """\nb = 2\n[c]\n"""\nb = 3\n[c]\nd = { e = [\n  1,\n] }\nf = 1\n')
    assert line_of(lines, ("b",)) == 5
    assert line_of(lines, ("c",)) == 6
    assert line_of(lines, ("c", "d")) <= 9  # where it ends: half of it cannot be parsed
    assert line_of(lines, ("c", "f")) == 10


def test_a_long_text_is_parsed_a_few_times_only() -> None:
    entries = [f'  "tcp:10.0.0.1:{port}",' for port in range(1, 2001)]
    lines = Lines("\n".join(["[groups.a]", "backends = [", *entries, "]", "limit = 0"]))
    for at in (0, 999, 1999):
        assert line_of(lines, ("groups", "a", "backends", at)) == at + 3
    assert line_of(lines, ("groups", "a", "limit")) == 2004
    assert len(lines._parsed) < 60
