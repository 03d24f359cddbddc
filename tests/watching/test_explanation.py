"""The text of C{explain()}, and the reason why the first request waits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.protocol import Protocol

from kolus.backend import Backend
from kolus.status import State, Status
from kolus.watching import (
    LeaseExplanation,
    ManagerExplanation,
    PoolExplanation,
    WaiterExplanation,
    label,
    why_waiting,
)

STATUS = Status(
    backend=Backend("tcp:10.0.0.7:11211", name="cache"),
    manager=None,
    ident="us",
    idle=0,
    leased=0,
    connecting=0,
    unused=0,
    waiting=1,
    limit=10,
    state=State.OPEN,
)
REFUSED = OSError("connection refused")
HEADLINE = "cache (open: limit 10, idle 0, leased 0, connecting 0, waiting 1) for 'us'"


def waiter(position: int = 1, why: str = "", **facts: Any) -> WaiterExplanation:
    nothing: dict[str, Any] = {"deadline_in": None, "owner": None, "origin": None}
    return WaiterExplanation(position, why, 0.5, **(nothing | facts))


def lease(held: float = 1.0, uses: int = 1, **facts: Any) -> LeaseExplanation:
    nothing: dict[str, Any] = {"owner": None, "origin": None}
    return LeaseExplanation(held, uses, **(nothing | facts))


def manager(**facts: Any) -> ManagerExplanation:
    nothing: dict[str, Any] = {
        "status": STATUS,
        "waiters": (),
        "leases": (),
        "last_error": None,
        "retry_in": None,
        "why": "",
    }
    return ManagerExplanation(**(nothing | facts))


# The one reason


def why(**facts: Any) -> str:
    """The reason, of facts that are a status' or else C{why_waiting}'s own."""
    numbers = {each: facts.pop(each) for each in tuple(facts) if each in Status.__slots__}
    return why_waiting(replace(STATUS, **numbers), **facts)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"waiting": 0, "state": State.PAUSED}, ""),
        (
            {"state": State.PAUSED, "leased": 10},
            "the manager is paused: it gives no leases until it is resumed",
        ),
        ({"state": State.DRAINING}, "the manager is draining: it gives no new leases"),
        ({"state": State.CLOSED}, "the manager is closed"),
        ({"state": State.ABSENT}, "no manager runs"),
        ({"leased": 10, "checking": 1}, "1 idle connection is being checked"),
        ({"leased": 10, "checking": 2}, "2 idle connections are being checked"),
        ({"connecting": 2}, "a connection is being made"),
        ({"connecting": 2, "connecting_for": 1.25}, "a connection is being made for 1.25 s"),
        (
            {"connecting": 1, "connecting_for": 0.1, "last_error": REFUSED},
            "a connection is being made for 0.1 s; the attempt before failed with OSError: "
            "connection refused",
        ),
        ({"leased": 10}, "all 10 connections are leased"),
        (
            {"leased": 10, "oldest_lease": 12.34},
            "all 10 connections are leased, the oldest for 12.3 s",
        ),
        ({"leased": 10, "shared": True}, "all 10 slots are leased"),
        ({"leased": 12}, "all 12 connections are leased"),
        ({"leased": 1, "limit": 1, "oldest_lease": 2}, "the only connection is leased, for 2 s"),
        (
            {"held_by_others": 7},
            "the limit is shared: other idents of the backend hold 7 of its 10 connections",
        ),
        (
            {"held_by_others": 7, "leased": 3, "oldest_lease": 4},
            "the limit is shared: other idents of the backend hold 7 of its 10 connections; "
            "leased here: 3, the oldest for 4 s",
        ),
        (
            {"retry_in": 2.5, "unused": 10, "last_error": REFUSED},
            "the next attempt to connect is due in 2.5 s, after the last failed with OSError: "
            "connection refused",
        ),
        ({"retry_in": 2.5, "unused": 10}, "the next attempt to connect is due in 2.5 s"),
        ({"leased": 9}, "a connection is being closed, and counts until it is gone"),
        ({"unused": 5, "siblings": 1}, "another manager of the backend connects first"),
        (
            {"unused": 5},
            "it was made just now, and is handled when the pool has finished its present work",
        ),
        ({"silent": 1}, "1 connection takes no lease now: the protocol reports no slots"),
    ],
)
def test_the_first_request_waits_for_one_reason(facts: dict[str, Any], reason: str) -> None:
    assert why(**facts) == reason


def test_of_several_reasons_the_one_is_told_that_should_be_over_first() -> None:
    everything: dict[str, Any] = {
        "leased": 10,
        "connecting": 1,
        "checking": 1,
        "held_by_others": 1,
        "retry_in": 1.0,
    }
    assert why(state=State.PAUSED, **everything).startswith("the manager is paused")
    assert why(**everything).endswith("being checked")
    assert why(**everything | {"checking": 0}) == "a connection is being made"
    everything |= {"checking": 0, "connecting": 0}
    assert why(**everything).startswith("all 10 connections are leased")
    assert why(**everything | {"leased": 9}).startswith("the limit is shared")


# What an operator reads


def test_a_pool_without_managers_says_so() -> None:
    assert str(PoolExplanation(())) == "no manager runs"


def test_a_manager_with_nothing_to_tell_is_one_line() -> None:
    assert str(PoolExplanation((manager(), manager()))) == f"{HEADLINE}\n{HEADLINE}"


def test_everything_about_a_manager_is_in_its_text() -> None:
    text = str(
        manager(
            leases=(
                lease(0.25, 1, doing="in a check"),
                lease(12.3, 4, owner="the worker", origin="  File work.py\n    connect()\n"),
            ),
            waiters=(
                waiter(1, "all is leased", deadline_in=4.5, owner="a page", origin="page.py:7"),
                waiter(2, "all is leased"),
                waiter(3, "its owner sleeps"),
            ),
            last_error=REFUSED,
            retry_in=2.5,
            why="all is leased",
        )
    )
    assert text == (
        f"{HEADLINE}\n"
        "  2 leases, the oldest first:\n"
        "    leased for 12.3 s, use 4 of its connection, owner the worker, taken here:\n"
        "        File work.py\n"
        "          connect()\n"
        "    in a check for 0.25 s, use 1 of its connection\n"
        "  3 requests in the queue: all is leased\n"
        "    1. for 0.5 s, fails in 4.5 s, owner a page, made here:\n"
        "      page.py:7\n"
        "    2. for 0.5 s, no deadline\n"
        "    3. for 0.5 s, no deadline: its owner sleeps\n"
        "  the last attempt to connect failed: OSError: connection refused\n"
        "  the next attempt is due in 2.5 s"
    )


def test_an_attempt_that_is_due_may_be_made_at_once() -> None:
    assert str(manager(last_error=REFUSED)).endswith("the next attempt may be made at once")


def test_one_lease_and_one_request_are_not_called_several() -> None:
    lines = str(manager(leases=(lease(),), waiters=(waiter(),))).splitlines()
    assert lines[1] == "  1 lease, the oldest first:"
    assert lines[3] == "  1 request in the queue"


def test_a_request_alone_says_why_it_waits() -> None:
    assert str(waiter(2, "all is leased")) == "2. for 0.5 s, no deadline: all is leased"


def test_the_text_is_bounded_and_counts_the_rest_and_the_values_are_complete() -> None:
    leases = tuple(lease(float(age)) for age in range(143))
    waiters = tuple(waiter(place) for place in range(1, 1001))
    explained = manager(leases=leases, waiters=waiters)
    lines = str(explained).splitlines()
    assert len(lines) == 1 + 2 * (1 + 20 + 1)
    assert lines[1:3] == [
        "  143 leases, the oldest first:",
        "    leased for 142 s, use 1 of its connection",
    ]
    assert lines[22:25] == ["    and 123 more", "  1000 requests in the queue", lines[24]]
    assert lines[24].startswith("    1. ")
    assert lines[43:] == ["    20. for 0.5 s, no deadline", "    and 980 more"]
    assert (len(explained.leases), len(explained.waiters)) == (143, 1000)


def test_twenty_are_all_there_are() -> None:
    assert "more" not in str(manager(leases=(lease(),) * 20))


def test_hours_are_not_told_in_powers_of_ten() -> None:
    assert "leased for 86400 s" in str(lease(86400.0))
    assert "leased for 1000 s" in str(lease(999.7))


def test_an_error_of_many_lines_is_told_in_one_of_some_length() -> None:
    error = ValueError("<html>\n" + "too much of a page\n" * 1000)
    (line,) = (each for each in str(manager(last_error=error)).splitlines() if "ValueError" in each)
    assert line.startswith("  the last attempt to connect failed: ValueError: <html> too much")
    assert line.endswith(" ...")
    assert len(line) < 350
    assert len(why(connecting=1, last_error=error).splitlines()) == 1


def test_an_error_that_cannot_be_read_spoils_nothing() -> None:
    class Unreadable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "failed: Unreadable: " in str(manager(last_error=Unreadable()))


# Owners


class Secretive(Protocol):
    def __repr__(self) -> str:
        return "password"


def test_an_owner_is_told_by_its_class_and_never_by_its_repr() -> None:
    owner = Secretive()
    assert label(owner) == f"tests.watching.test_explanation.Secretive at {id(owner):#x}"


def test_a_service_that_is_an_owner_is_told_by_its_name_too() -> None:
    service = Service()  # type: ignore[no-untyped-call]
    assert "Service at 0x" in label(service)
    service.setName("front")  # type: ignore[no-untyped-call]
    assert "Service 'front' at 0x" in label(service)
