"""Rule 26 over real sockets: a forked child raises errors, and its parent's connections live on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint

from kolus import LeaseError, Pool
from kolus.testing import result_of
from tests.net.asking import assert_whole
from tests.net.peers import Asker, Host
from tests.support.test_fork import in_child, pytestmark

__all__ = ["pytestmark"]

MakePool = Callable[..., Pool[Any]]


def outcomes(actions: list[Callable[[], object]]) -> str:
    """The error of each, or else what it gave."""
    told = []
    for action in actions:
        try:
            given = action()
            told.append(repr(result_of(given) if isinstance(given, Deferred) else given))
        except LeaseError:
            told.append("LeaseError")
    return " ".join(told)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_child_is_refused_everything_and_its_parents_connections_live_on(
    make_pool: MakePool,
) -> None:
    host = Host()
    await host.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
    where = host.endpoint
    pool = make_pool(Asker, limit=3)
    lease, idle = await pool.connect("us", where), await pool.connect("us", where)
    idle.release()
    actions: list[Callable[[], object]] = [
        lambda: pool.connect("us", where),
        lambda: pool.try_connect("us", where),
        lambda: pool.connect("us", "tcp:127.0.0.1:1"),
        lambda: lease.protocol.ask(b"from the child"),
        lambda: lease.protocol.transport.loseConnection(),
        lambda: pool.invalidate(where),
        lambda: lease.manager.invalidate(),
        lambda: pool.drain(where),
        lambda: pool.close(0),
        lease.release,
    ]
    assert in_child(lambda: outcomes(actions)) == " ".join(["LeaseError"] * len(actions))
    assert await lease.protocol.ask(b"from the parent") == b"from the parent"
    lease.release()
    for _ in range(2):
        async with await pool.connect("us", where) as again:
            assert again.reused
            assert await again.protocol.ask(b"again") == b"again"
    assert pool.counters().connects == 2
    assert b"from the child" not in b"".join(each.received for each in host.accepted)
    await assert_whole(reactor, pool, where)
    await pool.close()
    await host.stop()
