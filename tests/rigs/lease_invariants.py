"""Invariants of leases that ended otherwise than by a release, checked after every step."""

from __future__ import annotations

from typing import Any

from kolus.connection import ConnectionState
from tests.rigs.ledger import Ledger

__all__ = ["check_leases"]


def check_leases(ledger: Ledger) -> None:
    """Check what was revoked and detached, and what C{max_idle} allows."""
    nobody_holds_for_too_long(ledger)
    what_has_left_is_its_holders_alone(ledger)
    no_more_are_idle_than_are_kept(ledger)
    assert all(each.ends <= 1 for each in ledger.made)
    assert all(each.fired <= 1 for each in ledger.wishes)
    waiting = [wish for each in ledger.managers for wish in each.admission.warming.wishes]
    assert bool(waiting) <= any(each.waits() for each in ledger.wishes)


def nobody_holds_for_too_long(ledger: Ledger) -> None:
    most = ledger.pool.policy.hold_limit
    within = [each.lease for each in ledger.blocks if each.lease is not None]
    for lease in [*ledger.held, *within]:
        leasable: Any = lease.leasable
        connection = getattr(leasable, "connection", leasable)
        if lease.held and connection.state is not ConnectionState.CLOSED:
            held = ledger.now() - ledger.taken_at[lease]
            assert most is None or held < most + 0.001, f"{lease!r} for {held} s"
        elif not lease.held and "revoked" in repr(lease):
            assert connection.retired, "the connection of a revoked lease goes on"
            assert len(ledger.losses.get(lease, [None])) == 1, "its holder was not told"


def what_has_left_is_its_holders_alone(ledger: Ledger) -> None:
    connections = [each for manager in ledger.managers for each in manager.connections.all]
    here = {each.protocol for each in connections if hasattr(each, "protocol")}
    for each in ledger.detached:
        assert each.protocol not in here
        assert each.protocol.ends == (not each.is_open), "its holder was not told of its end"
    for backend in ledger.backends:
        record = ledger.record(backend)
        kept = ledger.kept(backend)
        assert len(kept) == (0 if record is None else len(record.detached))


def no_more_are_idle_than_are_kept(ledger: Ledger) -> None:
    most = ledger.pool.policy.max_idle
    for manager in ledger.managers if most is not None else ():
        assert manager.demand() or len(manager.connections.idle) <= most
