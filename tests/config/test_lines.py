"""The lines of the keys in a TOML file."""

from __future__ import annotations

from kolus.config.lines import Lines


def test_keys_tables_and_entries_of_lists_have_the_line_where_they_begin() -> None:
    text = '# one\na = 1\n\n[b]\nc = [\n  "x",\n  "y",  # two\n]\n"d.e" = 2\n'
    text += "[[f]]\ng = 3\n[[f]]\nh = 4\n"
    lines = Lines(text)
    assert lines.of(("a",)) == 2
    assert lines.of(("b",)) == 4
    assert lines.of(("b", "c", 0)) == 6
    assert lines.of(("b", "c", 1)) == 7
    assert lines.of(("b", "d.e")) == 9
    assert lines.of(("f", 0, "g")) == 11
    assert lines.of(("f", 1, "h")) == 13


def test_what_is_not_there_has_the_line_of_what_is_around_it() -> None:
    lines = Lines('[b]\nc = [\n  "x",\n]\n')
    assert lines.of(("b", "c", 7)) == 2
    assert lines.of(("b", "d")) == 1
    assert lines.of(("e", "f")) == 1


def test_a_value_of_many_lines_that_looks_like_keys_hides_none() -> None:
    lines = Lines('a = """\nb = 2\n[c]\n"""\nb = 3\n[c]\nd = { e = [\n  1,\n] }\nf = 1\n')
    assert lines.of(("b",)) == 5
    assert lines.of(("c",)) == 6
    assert lines.of(("c", "d")) <= 9  # where it ends: half of it cannot be parsed
    assert lines.of(("c", "f")) == 10


def test_a_long_text_is_parsed_a_few_times_only() -> None:
    entries = [f'  "tcp:10.0.0.1:{port}",' for port in range(1, 2001)]
    lines = Lines("\n".join(["[groups.a]", "backends = [", *entries, "]", "limit = 0"]))
    for at in (0, 999, 1999):
        assert lines.of(("groups", "a", "backends", at)) == at + 3
    assert lines.of(("groups", "a", "limit")) == 2004
    assert len(lines._parsed) < 60
