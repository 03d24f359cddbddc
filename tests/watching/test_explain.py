"""C{pool.explain()}, on a clock: leases, waiters and their reasons, and the next attempt."""

from __future__ import annotations

import re
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol

from kolus import ConnectFailed, Policy, Pool
from kolus.backoff import Backoff
from kolus.status import State
from kolus.testing import result_of
from kolus.watching import ManagerExplanation
from tests.rigs.pools import Half, Pooled

SECRET = "hunter2"


class Secretive(Protocol):
    """Gives its password away when it is printed."""

    def __repr__(self) -> str:
        return f"<Secretive password={SECRET}>"

    __str__ = __repr__


class Explained(Pooled):
    """A pool whose first backend is asked."""

    def __init__(self, protocol: Any = Protocol, **policy: Any) -> None:
        super().__init__(**policy)
        self.pool = Pool(self.clock, protocol, policy=Policy(**({"limit": 2} | policy)), rng=Half())

    def ask(self, ident: str = "us", **options: Any) -> Deferred[Any]:
        return self.pool.connect(ident, self.backends[0], **options)

    def lease(self, ident: str = "us", **options: Any) -> Any:
        return result_of(self.ask(ident, **options))

    def explain(self) -> ManagerExplanation:
        """That of the first manager; the text of all has to tell the same."""
        explained = self.pool.explain()
        assert str(explained.managers[0]) in str(explained)
        return explained.managers[0]


slotted = pytest.mark.parametrize("slots", [None, 1], ids=["exclusive", "shared"])


def test_a_pool_that_was_never_asked_has_nothing_to_explain() -> None:
    explained = Explained().pool.explain()
    assert explained.managers == ()
    assert str(explained) == "no manager runs"


@slotted
def test_explaining_changes_nothing(slots: int | None) -> None:
    rig = Explained(slots=slots)
    lease = rig.lease()
    asked = [rig.ask(), rig.ask()]
    before = rig.pool.status()
    assert str(rig.pool.explain()) == str(rig.pool.explain())
    assert rig.pool.status() == before
    for each in (result_of(asked[0]), lease):
        each.release()
    result_of(asked[1]).release()


# Leases


@slotted
def test_each_lease_tells_for_how_long_it_is_held_and_the_use_of_its_connection(
    slots: int | None,
) -> None:
    rig = Explained(slots=slots)
    rig.lease().release()
    first = rig.lease()
    rig.clock.advance(3)
    second = rig.lease()
    rig.clock.advance(4)
    leases = rig.explain().leases
    assert sorted((each.held, each.uses) for each in leases) == [(4, 1), (7, 2)]
    text = str(rig.pool.explain())
    assert "2 leases, the oldest first:\n    leased for 7 s, use 2 of its connection" in text
    assert "leased for 4 s, use 1 of its connection" in text
    first.release()
    second.release()
    assert rig.explain().leases == ()


@slotted
def test_a_lease_with_an_owner_tells_whose_it_is_and_where_it_was_taken(slots: int | None) -> None:
    rig = Explained(slots=slots)
    service = Service()
    service.setName("mailer")
    lease = rig.lease(owner=service)
    (told,) = rig.explain().leases
    assert told.owner == f"twisted.application.service.Service 'mailer' at {id(service):#x}"
    assert told.origin is not None
    assert "test_explain.py" in told.origin
    assert f"owner {told.owner}, taken here:" in str(rig.pool.explain())
    lease.release()


@slotted
@pytest.mark.parametrize("debug", [False, True])
def test_a_lease_without_an_owner_tells_where_it_was_taken_in_debug_mode(
    slots: int | None, debug: bool
) -> None:
    rig = Explained(slots=slots, debug=debug)
    lease = rig.lease()
    (told,) = rig.explain().leases
    assert told.owner is None
    assert (told.origin is not None and "test_explain.py" in told.origin) is debug
    lease.release()


@slotted
def test_a_settled_lease_of_an_owner_is_not_taken_for_the_next_one(slots: int | None) -> None:
    rig = Explained(slots=slots, limit=1)
    owner: Deferred[None] = Deferred()
    kept = rig.lease(owner=owner)
    kept.release()
    another = rig.lease()
    (told,) = rig.explain().leases
    assert told.owner is None
    another.release()


def test_every_slot_of_a_connection_is_told_by_itself() -> None:
    rig = Explained(slots=3)
    leases = []
    for _ in range(3):
        leases.append(rig.lease())
        rig.clock.advance(1)
    assert sorted(each.held for each in rig.explain().leases) == [1, 2, 3]
    for lease in leases:
        lease.release()


def test_what_is_in_a_reset_is_told_as_that_and_not_as_leased() -> None:
    resets: list[Deferred[None]] = []

    def reset(protocol: object) -> Deferred[None]:
        resets.append(Deferred())
        return resets[-1]

    rig = Explained(reset=reset)
    rig.lease().release()
    (told,) = rig.explain().leases
    assert told.doing == "in a reset"
    assert "in a reset for" in str(rig.pool.explain())
    resets[0].callback(None)
    assert rig.explain().leases == ()


# Requests


@slotted
def test_each_request_tells_its_place_its_wait_its_deadline_and_its_owner(
    slots: int | None,
) -> None:
    rig = Explained(slots=slots, limit=1)
    held, owner = rig.lease(), Protocol()
    asked = [rig.ask(timeout=60)]
    rig.clock.advance(2)
    asked.append(rig.ask(timeout=None, owner=owner))
    rig.clock.advance(1)
    first, second = rig.explain().waiters
    assert (first.position, first.waited, first.deadline_in) == (1, 3, 57)
    assert (second.position, second.waited, second.deadline_in) == (2, 1, 4)
    assert (first.owner, first.origin) == (None, None)
    assert second.owner == f"twisted.internet.protocol.Protocol at {id(owner):#x}"
    assert "test_explain.py" in str(second.origin)
    assert second.why.endswith("served before it")
    text = str(rig.pool.explain())
    assert re.search(r"1\. for 3 s, fails in 57 s", text)
    assert re.search(r"2\. for 1 s, fails in 4 s, owner .*Protocol at", text)
    held.release()
    for each in asked:
        result_of(each).release()


@slotted
def test_a_request_waits_because_everything_is_leased(slots: int | None) -> None:
    rig = Explained(slots=slots)
    leases = [rig.lease(), rig.lease()]
    rig.clock.advance(2)
    asked = rig.ask()
    unit = "slots" if slots else "connections"
    why = f"all 2 {unit} are leased, the oldest for 2 s"
    assert (rig.explain().why, rig.explain().waiters[0].why) == (why, why)
    assert f"1 request in the queue: {why}" in str(rig.pool.explain())
    for each in leases:
        each.release()
    result_of(asked).release()


@slotted
def test_a_request_waits_for_a_connection_that_is_being_made(slots: int | None) -> None:
    rig = Explained(slots=slots)
    rig.fakes[0].accept(after=2)
    asked = rig.ask()
    assert rig.explain().why.startswith("a connection is being made")
    rig.clock.advance(2)
    assert rig.explain().why == ""
    result_of(asked).release()


@slotted
def test_the_reason_tells_for_how_long_the_oldest_connection_is_being_made(
    slots: int | None,
) -> None:
    rig = Explained(slots=slots)
    rig.fakes[0].never_answer(always=True)
    rig.ask()
    rig.clock.advance(1.25)
    asked = rig.ask()
    assert rig.explain().why == "a connection is being made for 1.25 s"
    asked.addErrback(lambda failure: failure.trap(CancelledError))
    asked.cancel()


@slotted
def test_a_request_waits_for_a_check(slots: int | None) -> None:
    checks: list[Deferred[None]] = []

    def check(protocol: object) -> Deferred[None]:
        checks.append(Deferred())
        return checks[-1]

    rig = Explained(slots=slots, limit=1, check=check, check_after=1)
    rig.lease().release()
    rig.clock.advance(1)
    asked = rig.ask()
    explained = rig.explain()
    assert explained.why == "1 idle connection is being checked"
    # A connection that is shared counts as leased only once a slot of it is.
    assert [each.doing for each in explained.leases] == ([] if slots else ["in a check"])
    checks[0].callback(None)
    result_of(asked).release()


@slotted
def test_a_request_waits_because_the_manager_is_paused(slots: int | None) -> None:
    rig = Explained(slots=slots)
    rig.lease().release()
    rig.pool.pause()
    asked = rig.ask()
    explained = rig.explain()
    assert explained.status.state is State.PAUSED
    assert explained.why == "the manager is paused: it gives no leases until it is resumed"
    assert "paused" in str(rig.pool.explain()).splitlines()[0]
    rig.pool.resume()
    result_of(asked).release()


@slotted
def test_a_request_waits_for_a_connection_that_is_being_closed(slots: int | None) -> None:
    rig = Explained(slots=slots, limit=1)
    rig.lease().finished()
    asked = rig.ask()
    assert rig.explain().why == "a connection is being closed, and counts until it is gone"
    rig.turn()
    result_of(asked).release()


@slotted
def test_a_request_waits_because_other_idents_hold_the_limit(slots: int | None) -> None:
    rig = Explained(slots=slots, idents="separate")
    held = [rig.lease("them"), rig.lease("them")]
    asked = rig.ask("us")
    theirs, ours = rig.pool.explain().managers
    assert (theirs.status.ident, ours.status.ident) == ("them", "us")
    assert ours.why.startswith("the limit is shared: other idents of the backend hold 2 of its 2")
    assert (theirs.why, len(theirs.leases), len(ours.leases)) == ("", 2, 0)
    text = str(rig.pool.explain())
    assert "for 'them'" in text
    assert "for 'us'" in text
    for each in held:
        each.release()
    rig.turn()
    result_of(asked).release()


# Connecting


@slotted
def test_the_last_connect_error_and_the_time_of_the_next_attempt_are_told(
    slots: int | None,
) -> None:
    rig = Explained(slots=slots, backoff=Backoff(first=8, most=8))
    rig.fakes[0].refuse()
    with pytest.raises(ConnectFailed) as caught:
        rig.lease()
    rig.clock.advance(1)
    explained = rig.explain()
    assert explained.last_error is caught.value.reason
    assert explained.retry_in == pytest.approx(caught.value.retry_in - 1)
    text = str(rig.pool.explain())
    assert "the last attempt to connect failed: ConnectionRefusedError" in text
    assert "the next attempt is due in 3 s" in text
    rig.clock.advance(explained.retry_in)
    assert rig.explain().retry_in is None
    assert "the next attempt may be made at once" in str(rig.pool.explain())
    rig.lease().release()
    assert rig.explain().last_error is None
    assert "attempt" not in str(rig.pool.explain())


@slotted
def test_a_request_that_sits_through_the_back_off_waits_for_the_next_attempt(
    slots: int | None,
) -> None:
    rig = Explained(slots=slots, fail_fast=False, backoff=Backoff(first=4, most=4))
    rig.fakes[0].refuse()
    asked = rig.ask()
    rig.clock.advance(0.5)
    why = rig.explain().why
    assert why.startswith("the next attempt to connect is due in 1.5 s, after the last failed with")
    rig.clock.advance(1.5)
    result_of(asked).release()


# Nothing secret


@pytest.mark.parametrize("debug", [False, True])
@slotted
def test_no_protocol_and_no_owner_is_ever_printed(slots: int | None, debug: bool) -> None:
    rig = Explained(Secretive, slots=slots, debug=debug, limit=1)
    owner = Secretive()
    lease = rig.lease(owner=owner)
    other = Secretive()
    asked = [rig.ask(owner=other), rig.ask()]
    rig.clock.advance(1)
    explained = rig.pool.explain()
    assert explained.managers[0].leases[0].owner == f"{__name__}.Secretive at {id(owner):#x}"
    for text in (str(explained), repr(explained)):
        assert SECRET not in text
    lease.release()
    for each in asked:
        result_of(each).release()


@pytest.mark.parametrize("way", ["overdue", "forgotten", "still held", "deadlock"])
@slotted
def test_no_protocol_and_no_owner_is_printed_in_logs_and_errors_either(
    slots: int | None, way: str, log_events: list[Any]
) -> None:
    rig = Explained(Secretive, slots=slots, debug=True, limit=1)
    owner = Secretive()
    lease: Any = rig.lease(owner=owner)
    texts: list[str] = []
    if way == "overdue":
        rig.clock.advance(60)
    elif way == "forgotten":
        lease = None
        rig.turn()
    elif way == "still held":
        rig.pool.close(0)
        rig.turn()
    else:
        rig.ask(owner=owner).addErrback(lambda failure: texts.append(str(failure.value)))
    texts += [each["log_format"].format(**each) for each in log_events if each.get("log_format")]
    assert texts
    assert SECRET not in "".join(texts)
    if lease is not None:
        lease.release()


def test_backends_are_told_by_their_names() -> None:
    rig = Explained()
    for backend in rig.backends:
        result_of(rig.pool.connect("us", backend)).release()
    lines = str(rig.pool.explain()).splitlines()
    assert [line.split()[0] for line in lines] == ["a", "b", "c"]
