"""The clients of a front: who is listed, and how one client is closed."""

from __future__ import annotations

from tests.tunnel.test_front import Stage


def test_a_client_is_listed_while_it_waits_and_while_it_is_served() -> None:
    stage = Stage()
    stage.client()
    stage.reactor.advance(2)
    stage.client()
    first, second = stage.front.clients.status(10)
    assert (first.number, first.state, first.age, first.waited) == (1, "waiting", 2.0, 2.0)
    assert (second.number, second.state) == (2, "waiting")
    assert len(stage.front.clients.status(1)) == 1


def test_a_client_that_waits_can_be_closed() -> None:
    stage = Stage()
    client = stage.client()
    assert stage.front.close_client(1)
    stage.reactor.advance(0)
    assert stage.cancelled == stage.asked
    assert client.closed == "reset"
    assert not stage.front.close_client(1)


def test_the_length_of_a_session_is_noted_when_it_ends() -> None:
    stage = Stage()
    client = stage.client()
    stage.grant()
    stage.reactor.advance(5)
    assert stage.front.close_client(1)
    stage.reactor.advance(1)
    assert client.closed == "reset"
    assert stage.front.clients.durations.count == 1
    assert stage.front.clients.durations.sum >= 5.0
    assert stage.front.clients.status(10) == ()
