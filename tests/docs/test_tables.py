"""The tables of the reference say what the code says."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import fields
from typing import Any

from kolus import Ejection, Lease, Policy, Pool, balance, errors, events
from kolus.backoff import Backoff
from kolus.balance import fill_first, pick_two
from kolus.daemon.tap import Options
from tests.rigs.pages import ROOT, Page

DOCS = ROOT / "docs"
POLICY = Page(DOCS / "reference" / "policy.md")
ERLANG = Page(DOCS / "reference" / "erlang.md")
LISTENER = Page(DOCS / "reference" / "listener.md")


def tables() -> Any:
    """C{docs/tables.py}, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("tables", DOCS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_made_from_the_docstrings_as_they_are() -> None:
    assert tables().main(["--check"]) == 0


def test_the_defaults_are_those_of_the_policy() -> None:
    known = {
        "Backoff": Backoff,
        "Ejection": Ejection,
        "fill_first": fill_first,
        "pick_two": pick_two,
    }
    rows = POLICY.table("setting | `Policy()`")
    assert [row[0].strip("`") for row in rows] == [each.name for each in fields(Policy)]
    for name, default, erlang, unit, meaning in rows:
        assert unit
        assert meaning
        for shown, policy in ((default, Policy()), (erlang, Policy.erlang())):
            says = eval(shown.strip("`"), known)
            does = getattr(policy, name.strip("`"))
            # Two balancers that pick_two made are the same but for where they came from.
            assert says == does or repr(says) == repr(does), f"{name} is {does!r}, not {shown}"


def test_the_page_says_of_every_setting_when_to_change_it() -> None:
    rows = POLICY.table("setting | change it")
    assert [row[0].strip("`") for row in rows] == [each.name for each in fields(Policy)]
    assert all(row[1] for row in rows)


def test_every_event_and_every_error_has_its_row() -> None:
    for page, heading, module in (
        ("events", "event | when", events),
        ("errors", "error | is a", errors),
    ):
        rows = Page(DOCS / "reference" / f"{page}.md").table(heading)
        named = {row[0].strip("`") for row in rows}
        base = events.Event if module is events else errors.KolusError
        defined = {
            name
            for name, each in vars(module).items()
            if isinstance(each, type) and issubclass(each, base) and each is not base
        }
        assert named == defined


def test_every_call_of_the_original_has_one_that_exists() -> None:
    rows = ERLANG.table("kolus in Erlang")
    theirs = " ".join(row[0] for row in rows)
    for each in ("status", "connect", "select", "return", "finished", "get_socket", "get_manager"):
        assert f"`kolus:{each}(" in theirs
    ours = " ".join(cell for row in rows for cell in row[1:])
    calls = re.findall(r"\b(pool|lease|Policy)\.(\w+)", ours)
    assert len(calls) >= 13
    for owner, name in calls:
        assert hasattr({"pool": Pool, "lease": Lease, "Policy": Policy}[owner], name), name
    (row,) = [row for row in rows if "Policy(" in row[1]]
    assert isinstance(eval(row[1].strip("`"), {"Policy": Policy}), Policy)


def test_every_option_has_its_key_in_the_reference() -> None:
    rows = {row[0].strip("`"): row[1] for row in LISTENER.table("option")}
    options = {"--" + each.rstrip("=") for each in Options().longOpt}
    assert options - {"--help", "--version", "--config", "--check-config", "--demo"} == set(rows)
    assert rows["--wait"] == "`listeners.NAME.queue_timeout`"


def test_the_table_of_balancers_has_them_all() -> None:
    rows = Page(DOCS / "how-to" / "health.md").table("balancer | chooses | use it if")
    named = {re.findall(r"\w+", row[0])[0] for row in rows}
    assert named == {*balance.NAMES, "consistent", "prefer_zone"}
    assert named <= set(balance.__all__)
