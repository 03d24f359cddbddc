"""A reload: what changes while the daemon runs, what does not, and that no client is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from kolus.backend import Backend
from kolus.checking import HealthCheck
from kolus.config import Config, ConfigError, GroupSettings, ListenerConfig
from kolus.errors import LeaseTimeout
from kolus.status import State
from kolus.testing import FakeBackend, result_of
from kolus.testing.results import failure_of
from kolus.tunnel import ListenerSettings
from tests.rigs.reloading import Reloading
from tests.rigs.staging import FakeListener, messages

CLOCK = Clock()
ONE, TWO = Backend(FakeBackend(CLOCK), name="one"), Backend(FakeBackend(CLOCK), name="two")


def group(*backends: Backend, **settings: Any) -> GroupSettings:
    return GroupSettings(backends=backends, **settings)


def listener(*listen: str, group: str = "main", **settings: Any) -> ListenerConfig:
    return ListenerConfig(listen=listen, group=group, settings=ListenerSettings(**settings))


CONFIG = Config(groups={"main": group(ONE)}, listeners={"clients": listener("tcp:1")})


def changed(
    config: Config = CONFIG,
    groups: dict[str, GroupSettings] | None = None,
    listeners: dict[str, ListenerConfig] | None = None,
    **rest: Any,
) -> Config:
    """A configuration with some groups and listeners more, or others."""
    return replace(
        config,
        groups={**config.groups, **(groups or {})},
        listeners={**config.listeners, **(listeners or {})},
        **rest,
    )


@pytest.fixture
def rig() -> Iterator[Reloading]:
    made = Reloading(CLOCK, CONFIG)
    yield made
    made.end()


def logged(rig: Reloading, config: Config | ConfigError) -> list[str]:
    """What a reload that changes nothing logs."""
    before = rig.daemon.config
    with capturedLogs() as events:
        assert not rig.reload(config)
    assert rig.daemon.config is before
    return messages(events)


# Groups


def test_other_backends_serve_the_next_clients_and_leases_stay(rig: Reloading) -> None:
    lease = rig.lease()
    pool = rig.daemon.groups["main"].pool
    assert rig.reload(changed(groups={"main": group(TWO)}))
    assert rig.lease().backend == TWO
    assert rig.daemon.groups["main"].pool is pool
    assert lease.backend == ONE
    lease.finished()  # it was valid all the time


def test_a_larger_limit_serves_those_who_wait(rig: Reloading) -> None:
    rig.reload(changed(groups={"main": group(ONE, limit=1)}))
    lease, waiting = rig.lease(), rig.connect()
    rig.settle()
    assert lease.backend == ONE
    assert not waiting.called
    assert rig.reload(changed(groups={"main": group(ONE, limit=2)}))
    assert result_of(waiting).backend == ONE


@pytest.mark.parametrize("name", ["total_limit", "balance"])
def test_the_pool_stays_if_its_limit_or_the_balancer_changes(rig: Reloading, name: str) -> None:
    pool, served = rig.daemon.groups["main"].pool, rig.daemon.groups["main"].group
    assert served is not None
    value: Any = {"total_limit": 3, "balance": "round_robin"}[name]
    balancer = served.balancer
    assert rig.reload(changed(groups={"main": group(ONE, **{name: value})}))
    assert rig.daemon.groups["main"].pool is pool
    assert pool.limit == (3 if name == "total_limit" else None)
    assert (served.balancer is balancer) is (name == "total_limit")


@pytest.mark.parametrize(
    "settings", [{"connect_timeout": 2.0}, {"max_waiters": 5}, {"eject_after": 1}]
)
def test_settings_that_a_pool_keeps_get_a_new_pool_and_the_old_one_ends_with_its_clients(
    rig: Reloading, settings: dict[str, Any]
) -> None:
    lease, old = rig.lease(), rig.daemon.groups["main"].pool
    assert rig.reload(changed(groups={"main": group(ONE, **settings)}))
    new = rig.daemon.groups["main"].pool
    assert new is not old
    another = rig.lease()
    assert another.backend == ONE
    assert [sum(each.leased for each in pool.status()) for pool in (old, new)] == [1, 1]
    rig.settle(60)
    assert lease.protocol.transport.connected
    lease.finished()
    rig.settle(5)
    assert not old.status()
    assert not rig.daemon._leaving.groups


def test_clients_of_the_pool_before_count_against_the_limits_of_the_new_one(rig: Reloading) -> None:
    rig.reload(changed(groups={"main": group(ONE, TWO, limit=2, total_limit=3)}))
    old = [rig.lease(), rig.lease()]
    new = []
    for number in (2, 3, 4):  # three pools, one after the other
        new_group = group(ONE, TWO, limit=2, total_limit=3, max_waiters=number)
        assert rig.reload(changed(groups={"main": new_group}))
        if number == 2:
            new.append(rig.lease())
    assert {each.backend for each in old} == {ONE, TWO}
    (status,) = rig.daemon.groups["main"].pool.status([new[0].backend])
    assert (status.leased, status.unused, status.detached) == (0, 0, 2)
    waiting = rig.connect()
    rig.settle(1)
    assert not waiting.called
    old[0].finished()
    rig.settle()
    lease = result_of(waiting)
    waiting = rig.connect()
    for each in (old[1], *new):
        rig.settle()
        each.finished()
    rig.settle()
    result_of(waiting).finished()
    lease.finished()
    rig.settle(5)
    assert not rig.daemon._leaving.groups
    assert rig.daemon.groups["main"].pool._managers.records.sharers == []


@pytest.mark.parametrize("waits", [False, True])
def test_the_pool_before_keeps_nothing_ready_once_nobody_waits_there(
    rig: Reloading, waits: bool
) -> None:
    rig.reload(changed(groups={"main": group(ONE, limit=3, connect_ahead=2)}))
    held, ending = [rig.lease()], [rig.lease(), rig.lease()]
    waiting = [rig.connect()] * waits
    rig.settle()
    rig.reload(changed(groups={"main": group(ONE, limit=3, connect_ahead=1)}))
    for each in ending:
        each.finished()
    rig.settle(4)
    held += map(result_of, waiting)
    (served,) = rig.daemon._leaving.groups
    assert [(each.idle, each.leased) for each in served.pool.status()] == [(0, len(held))]
    (status,) = rig.daemon.groups["main"].pool.status([ONE])
    assert status.idle == 1
    for each in held:
        each.finished()
    rig.settle(5)
    assert not rig.daemon._leaving.groups


def test_a_backend_that_the_checks_have_ejected_is_ejected_in_the_new_pool_too() -> None:
    clock = Clock()
    well, down = FakeBackend(clock), FakeBackend(clock).refuse(always=True)
    backends = (Backend(well, name="well"), Backend(down, name="down"))
    check = HealthCheck(fall=2, rise=1)
    rig = Reloading(clock, changed(groups={"main": group(*backends, check=check)}))

    def ejected() -> list[str]:
        its = rig.daemon.groups["main"].group
        assert its is not None
        return [str(each.backend) for each in its.status().backends if each.state is State.EJECTED]

    rig.settle(5)
    assert ejected() == ["down"]
    with capturedLogs() as events:
        assert rig.reload(changed(groups={"main": group(*backends, check=check, max_waiters=7)}))
    assert ejected() == ["down"]
    assert not any("admitted" in each["log_format"] for each in events)
    down.accept(always=True)
    rig.settle(3)
    assert ejected() == []
    rig.end()


def test_the_end_of_the_checks_is_not_told_as_a_backend_that_is_well_again() -> None:
    clock = Clock()
    well, down = FakeBackend(clock), FakeBackend(clock).refuse(always=True)
    check = HealthCheck(fall=2, rise=1)
    backends = (Backend(well, name="well"), Backend(down, name="down"))
    rig = Reloading(clock, changed(groups={"main": group(*backends, check=check)}))
    rig.settle(5)
    with capturedLogs() as events:
        rig.end()
    assert not any("admitted" in each["log_format"] for each in events)


def test_a_backend_that_was_ejected_by_hand_stays_so_in_the_new_pool(rig: Reloading) -> None:
    rig.reload(changed(groups={"main": group(ONE, TWO)}))
    rig.daemon.groups["main"].pool.eject(ONE)
    for number in (3, 4):
        assert rig.reload(changed(groups={"main": group(ONE, TWO, max_waiters=number)}))
        assert {rig.lease().backend for _ in range(4)} == {TWO}
    pool = rig.daemon.groups["main"].pool
    assert pool.ejected_by_hand() == [ONE]
    pool.admit(ONE)
    assert pool.ejected_by_hand() == []
    assert {rig.lease().backend for _ in range(4)} == {ONE, TWO}


def test_a_pool_that_leaves_costs_no_more_the_longer_its_last_client_stays(rig: Reloading) -> None:
    lease, (status,) = rig.lease(), rig.daemon.groups["main"].pool.status()
    rig.reload(changed(groups={"main": group(ONE, max_waiters=5)}))
    manager: Any = status.manager
    rig.settle(2)
    before = len(manager.lifecycle._told_closed)
    for _ in range(100):
        rig.settle(10)
    assert len(manager.lifecycle._told_closed) == before
    lease.finished()


def test_who_waits_in_a_pool_that_leaves_is_served_by_it(rig: Reloading) -> None:
    rig.reload(changed(groups={"main": group(ONE, limit=1)}))
    lease, waiting = rig.lease(), rig.connect()
    rig.settle()
    rig.reload(changed(groups={"main": group(ONE, limit=1, max_waiters=9)}))
    rig.settle(3)
    lease.finished()
    rig.settle()
    result_of(waiting).finished()


def test_a_group_is_added_and_removed(rig: Reloading) -> None:
    more = changed(groups={"new": group(TWO)}, listeners={"others": listener("tcp:2", group="new")})
    assert rig.reload(more)
    lease = rig.lease("others")
    assert lease.backend == TWO
    assert rig.reload(CONFIG)
    assert set(rig.daemon.groups) == {"main"}
    lease.finished()
    rig.settle(5)
    assert not rig.daemon._leaving.groups


def test_what_was_set_by_hand_stays_where_the_file_is_the_same(rig: Reloading) -> None:
    pool = rig.daemon.groups["main"].pool
    rig.lease()
    pool.resize(3)
    pool.pause(ONE)
    assert rig.reload(changed(listeners={"more": listener("tcp:2")}))
    assert [each.limit for each in pool.status()] == [3]
    waiting = rig.connect()
    rig.settle(6)
    failure_of(LeaseTimeout, waiting)


# Listeners


def test_a_listener_is_added(rig: Reloading) -> None:
    assert rig.reload(changed(listeners={"more": listener("tcp:2")}))
    assert rig.listens("tcp:2")
    assert rig.lease("more").backend == ONE
    assert rig.daemon.listeners["more"].running


def test_a_listener_that_is_removed_closes_its_port_and_keeps_its_clients(rig: Reloading) -> None:
    rig.reload(changed(listeners={"more": listener("tcp:2")}))
    front, port = rig.fronts["more"], rig.addresses["tcp:2"].port
    front.is_empty = False
    assert rig.reload(CONFIG)
    assert not port.listening
    rig.settle(3600)
    assert front.graces == []
    front.is_empty = True
    rig.settle(2)
    assert front.graces == [30.0]
    assert not rig.daemon._leaving.listeners


def test_clients_of_a_listener_that_is_removed_have_the_grace_when_the_daemon_ends() -> None:
    rig = Reloading(CLOCK, changed(listeners={"more": listener("tcp:2")}, grace=7.0))
    rig.fronts["more"].is_empty = False
    rig.reload(replace(CONFIG, grace=7.0))
    rig.end()
    assert rig.fronts["more"].graces == [7.0]


def test_another_grace_is_that_of_a_listener_that_was_removed_before_too() -> None:
    rig = Reloading(CLOCK, changed(listeners={"more": listener("tcp:2")}, grace=30.0))
    rig.fronts["more"].is_empty = False
    rig.reload(CONFIG)
    rig.reload(replace(CONFIG, grace=1.0))
    rig.end()
    assert rig.fronts["more"].graces == [1.0]


def test_a_listener_gets_other_addresses_and_keeps_those_that_stay(rig: Reloading) -> None:
    rig.reload(changed(listeners={"clients": listener("tcp:1", "tcp:2")}))
    first = rig.addresses["tcp:1"].port
    assert rig.reload(changed(listeners={"clients": listener("tcp:1", "unix:/x")}))
    assert rig.daemon.listeners["clients"].ports[0] is first
    assert [rig.listens(each) for each in ("tcp:1", "tcp:2", "unix:/x")] == [True, False, True]


def test_a_front_is_told_its_other_settings_and_stays(rig: Reloading) -> None:
    front = rig.daemon.listeners["clients"].front
    its = listener("tcp:1", max_clients=5)
    assert rig.reload(
        changed(groups={"main": group(ONE, send_proxy="v2")}, listeners={"clients": its})
    )
    assert rig.daemon.listeners["clients"].front is front
    assert rig.fronts["clients"].told == [(its.settings, None, "v2")]


def test_another_queue_timeout_and_another_group_apply_to_the_next_clients(rig: Reloading) -> None:
    its = listener("tcp:1", group="new", queue_timeout=1.0)
    assert rig.reload(changed(groups={"new": group(TWO, limit=1)}, listeners={"clients": its}))
    lease, waiting = rig.lease(), rig.connect()
    assert lease.backend == TWO
    rig.settle(0.9)
    assert not waiting.called
    rig.settle(0.2)
    failure_of(LeaseTimeout, waiting)


def test_a_reload_changes_the_grace(rig: Reloading) -> None:
    assert rig.reload(changed(grace=3.0))
    rig.fronts["clients"].drained.callback(0)
    rig.daemon.listeners["clients"].stopService()
    assert rig.fronts["clients"].graces == [3.0]
    rig.fronts["clients"].drained = type(rig.fronts["clients"].drained)()


# What is refused


def test_a_broken_configuration_changes_nothing_and_its_mistakes_are_logged(rig: Reloading) -> None:
    port = rig.addresses["tcp:1"].port
    told = logged(rig, ConfigError(["kolus.toml, line 3: x", "kolus.toml, line 5: y"]))
    assert told == [
        "the configuration stays as it was, as the new one is wrong:\n"
        "kolus.toml, line 3: x\nkolus.toml, line 5: y"
    ]
    assert port.listening
    rig.lease()


def test_if_one_address_cannot_be_listened_on_nothing_is_changed(rig: Reloading) -> None:
    rig.addresses["tcp:3"] = FakeListener(CannotListenError("", 3, OSError(98, "in use")))
    wrong = changed(
        groups={"main": group(TWO)},
        listeners={
            "clients": listener("tcp:2"),
            "more": listener("tcp:4"),
            "wrong": listener("tcp:5", "tcp:3"),
        },
    )
    told = logged(rig, wrong)
    assert told[-1].startswith("the configuration stays as it was: cannot listen on tcp:3")
    assert [rig.listens(each) for each in ("tcp:1", "tcp:2", "tcp:4", "tcp:5")] == [
        *(True, False, False, False)
    ]
    assert set(rig.daemon.listeners) == {"clients"}
    assert rig.lease().backend == ONE


@pytest.mark.parametrize("name", ["clients", "more"])
def test_an_address_that_is_held_already_is_told_with_its_holder(rig: Reloading, name: str) -> None:
    rig.addresses["tcp:6380"] = other = FakeListener()
    vars(other).update(_port=6380, _interface="127.0.0.1")  # where the other one listens
    told = logged(rig, replace(CONFIG, listeners={name: listener("tcp:6380")}))
    assert told == [
        f"the configuration stays as it was: listener {name} cannot listen on tcp:6380: listener "
        "clients has tcp:1, and a reload keeps or moves an address only as it is. Write tcp:1; or "
        "restart; or take it out, reload, put it in again, and reload"
    ]
    assert other.factory is None
    assert rig.listens("tcp:1")


def test_two_listeners_exchange_addresses_that_stay_open(rig: Reloading) -> None:
    rig.reload(changed(listeners={"clients": listener("tcp:1"), "more": listener("unix:/x")}))
    ports = {each: rig.addresses[each].port for each in ("tcp:1", "unix:/x")}
    its = {"clients": listener("unix:/x"), "more": listener("tcp:1")}
    with capturedLogs() as events:
        assert rig.reload(changed(listeners=its))
    assert messages(events) == [
        "unix:/x goes from listener more to listener clients",
        "tcp:1 goes from listener clients to listener more",
        "the configuration is reloaded",
    ]
    assert rig.daemon.listeners["clients"].ports == [ports["unix:/x"]]
    assert rig.daemon.listeners["more"].ports == [ports["tcp:1"]]
    assert all(port.listening for port in ports.values())
    assert rig.fronts["clients"].taken == [(ports["unix:/x"], rig.fronts["clients"])]


def test_a_listener_with_another_name_goes_on_with_the_addresses(rig: Reloading) -> None:
    old, port = rig.fronts["clients"], rig.addresses["tcp:1"].port
    old.is_empty = False
    assert rig.reload(replace(CONFIG, listeners={"renamed": listener("tcp:1", "tcp:2")}))
    assert set(rig.daemon.listeners) == {"renamed"}
    assert port in rig.daemon.listeners["renamed"].ports
    assert (rig.listens("tcp:1"), rig.listens("tcp:2")) == (True, True)
    assert rig.daemon.listeners["renamed"].running
    rig.settle(3600)
    assert old.graces == []  # its clients stay
    old.is_empty = True
    rig.settle(2)
    assert port.listening


def test_an_address_stays_where_it_was_if_another_cannot_be_listened_on(rig: Reloading) -> None:
    rig.addresses["tcp:3"] = FakeListener(CannotListenError("", 3, OSError(98, "in use")))
    port = rig.addresses["tcp:1"].port
    told = logged(rig, replace(CONFIG, listeners={"renamed": listener("tcp:1", "tcp:3")}))
    assert told[-1].startswith("the configuration stays as it was: cannot listen on tcp:3")
    assert rig.daemon.listeners["clients"].ports == [port]
    assert port.listening


def test_an_address_whose_clients_begin_to_send_a_header_stays_open(rig: Reloading) -> None:
    port = rig.addresses["tcp:1"].port
    assert rig.reload(replace(CONFIG, listeners={"clients": listener("haproxy:tcp:1")}))
    service = rig.daemon.listeners["clients"]
    assert service.offers() == [("haproxy:tcp:1", port)]
    assert port.listening
    front = rig.fronts["clients"]
    assert front.taken == [(port, front.header_factory)]


def test_what_needs_a_restart_is_named_and_the_rest_is_reloaded(rig: Reloading) -> None:
    with capturedLogs() as events:
        assert rig.reload(changed(name_servers=("10.0.0.2",), grace=3.0))
    assert messages(events)[0] == "name_servers stays as it was: it needs a restart"
    assert (rig.daemon.config.name_servers, rig.daemon.config.grace) == ((), 3.0)


def test_a_reload_of_the_same_changes_nothing(rig: Reloading) -> None:
    pool, ports = rig.daemon.groups["main"].pool, rig.daemon.listeners["clients"].ports
    for _ in range(3):
        assert rig.reload(CONFIG)
    assert rig.daemon.groups["main"].pool is pool
    assert rig.daemon.listeners["clients"].ports == ports
    assert rig.daemon._leaving.groups == []


def test_all_groups_end_together_even_if_nobody_settles_their_leases() -> None:
    names = ("main", "other", "third")
    rig = Reloading(CLOCK, replace(CONFIG, groups=dict.fromkeys(names, group(ONE))))
    leases = [result_of(each.pool.connect("us", ONE)) for each in rig.daemon.groups.values()]
    assert rig.reload(changed(rig.daemon.config, groups={"main": group(ONE, max_waiters=5)}))
    rig.end()  # within the time that one of them takes for itself, twice
    assert [each.protocol.gone for each in leases] == [True] * 3
