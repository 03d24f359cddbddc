"""The metrics of pools: their sums are those of a known load, and their names follow the rules."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.web.server import Site

from kolus import Backend, LeaseTimeout, Policy, Pool
from kolus.durations import Durations
from kolus.metrics import Metrics
from kolus.prometheus import (
    MetricsPage,
    Observed,
    PoolMetrics,
    exposition,
    exposition_pieces,
    pool_families,
    whole,
)
from kolus.testing import FakeBackend, result_of
from tests.conftest import require
from tests.rigs.desk import Desk, Line

ROOT = Path(__file__).parents[2]
LABELS = {"pool", "backend", "state", "reason", "listener", "direction", "le"}
DASHBOARD = ROOT / "contrib" / "grafana-dashboard.json"


class Loaded:
    """A pool after a known load at the backend C{a}: five leases, of which two waited 1 s and 2 s,
    three connects, of which one is closed; a time-out, a cancel, a failed connect."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.backend = Backend(self.fake, name="a")
        self.pool: Pool[Any] = Pool(self.clock, Protocol, policy=Policy(limit=2))
        self.registry = CollectorRegistry()
        self.registry.register(PoolMetrics(cache=self.pool))
        self._load()

    def _load(self) -> None:
        ask = self.pool.connect
        first, second = [result_of(ask("us", self.backend)) for _ in range(2)]
        waiting = [ask("us", self.backend) for _ in range(2)]
        late = ask("us", self.backend, timeout=0.5)
        late.addErrback(lambda failure: failure.trap(LeaseTimeout))
        given_up = ask("us", self.backend)
        given_up.addErrback(lambda failure: None)
        given_up.cancel()
        self.clock.advance(1)
        first.release()
        self.clock.advance(1)
        second.finished()
        self.clock.pump([0, 0])
        self.kept = [result_of(each) for each in waiting]
        self.kept.pop().release()
        self.kept.append(result_of(ask("us", self.backend)))
        self.fake.refuse()
        refused = self.pool.connect("us", Backend(self.fake, name="b"))
        refused.addErrback(lambda failure: None)
        self.clock.pump([0, 0])

    def values(self) -> dict[tuple[str, ...], float]:
        """Each value by the name and the labels' values besides the pool's."""
        text, _ = exposition(self.registry)
        found = {}
        for family in text_string_to_metric_families(text.decode()):
            for each in family.samples:
                assert each.labels.pop("pool") == "cache"
                rest = [value for name, value in sorted(each.labels.items())]
                found[(each.name, *rest)] = each.value
        return found

    def end(self) -> None:
        closed = self.pool.close(0)
        self.clock.pump([0, 0, 60])
        result_of(closed)


def test_the_sums_are_those_of_the_load() -> None:
    loaded = Loaded()
    values = loaded.values()
    counted = {
        "kolus_leases_total": 5,
        "kolus_waits_total": 4,  # two of them for the first connects, which took no time
        "kolus_releases_total": 2,
        "kolus_finishes_total": 1,
        "kolus_timeouts_total": 1,
        "kolus_cancels_total": 1,
        "kolus_connects_total": 3,
        "kolus_waiting_requests": 0,
        "kolus_connection_limit": 2,
        "kolus_wait_seconds_count": 5,
        "kolus_wait_seconds_sum": 3.0,
        "kolus_hold_seconds_count": 3,
        "kolus_hold_seconds_sum": 3.0,
        "kolus_connect_seconds_count": 3,
    }
    assert {name: values[name, "a"] for name in counted} == counted
    assert values["kolus_closes_total", "a", "finished"] == 1
    connections = {
        state: values["kolus_connections", "a", state]
        for state in ("idle", "leased", "connecting", "unused")
    }
    assert connections == {"idle": 0, "leased": 2, "connecting": 0, "unused": 0}
    assert values["kolus_backend_state", "a", "open"] == 1
    assert values["kolus_connect_failures_total", "b"] == 1
    loaded.end()


def test_a_histogram_counts_up_to_its_last_bucket() -> None:
    loaded = Loaded()
    values = loaded.values()
    assert values["kolus_wait_seconds_bucket", "a", "0.5"] == 3
    assert values["kolus_wait_seconds_bucket", "a", "1.0"] == 4
    assert values["kolus_wait_seconds_bucket", "a", "+Inf"] == 5
    loaded.end()


def test_the_page_serves_the_metrics_in_the_format_that_is_asked_for() -> None:
    loaded = Loaded()
    site = Site(MetricsPage(loaded.registry), reactor=loaded.clock)
    for kind in ("text/plain", "application/openmetrics-text"):
        line = Line(site)
        line.send(f"GET / HTTP/1.1\r\nHost: x\r\nAccept: {kind}\r\n\r\n".encode())
        answered = line.answered()
        assert answered.headers["content-type"].startswith(kind)
        assert b"kolus_leases_total" in answered.body
        line.close()
    loaded.end()


def test_a_pool_without_metrics_has_no_observer() -> None:
    pool: Pool[Any] = Pool(Clock(), Protocol)
    assert pool._observers == []


def scraped(desk: Desk) -> str:
    answered = desk.ask("GET", "/metrics")
    assert answered.status == 200
    return answered.body.decode()


@pytest.fixture
def text() -> str:
    """What a daemon exposes."""
    desk = Desk()
    desk.lease().release()
    found = scraped(desk)
    desk.end()
    return found


def test_the_names_follow_the_conventions_of_prometheus(text: str) -> None:
    families = list(text_string_to_metric_families(text))
    names = [each.name for each in families]
    assert sorted(names) == sorted(set(names))
    for each in families:
        assert re.fullmatch(r"kolus_[a-z]+(_[a-z]+)*", each.name), each.name
        assert each.documentation.endswith("."), each.name
        assert each.type in ("gauge", "counter", "histogram")
        assert not re.search(r"(gauge|counter|histogram|total|count|sum|bucket)$", each.name)
        assert not re.search(r"_(milliseconds|ms|minutes|kb|kilobytes|percent)", each.name)
        if each.type == "histogram":
            assert each.name.endswith("_seconds")
        for sample in each.samples:
            assert each.type != "counter" or sample.name.endswith(("_total", "_created"))
            assert set(sample.labels) <= LABELS


def test_promtool_finds_no_mistake_in_the_metrics(text: str) -> None:
    promtool = require("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert done.stdout + done.stderr == ""


def test_the_metrics_of_listeners_are_told() -> None:
    desk = Desk()
    desk.front.served, desk.front.sent, desk.front.received = 3, 100, 200
    desk.front.clients.durations.add(5.0)
    lines = scraped(desk).splitlines()
    for wanted in (
        'kolus_served_clients_total{listener="clients"} 3.0',
        'kolus_client_bytes_total{direction="sent",listener="clients"} 100.0',
        'kolus_client_bytes_total{direction="received",listener="clients"} 200.0',
        'kolus_session_seconds_count{listener="clients"} 1.0',
    ):
        assert wanted in lines
    desk.end()


def test_every_metric_that_the_dashboard_names_exists(text: str) -> None:
    known = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    known |= {f"{each}_bucket" for each in known if each.endswith("_seconds")}
    dashboard = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = set(re.findall(r"\bkolus_\w+", " ".join(asked)))
    assert len(asked) >= 8
    assert named - known == set()


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_the_pieces_of_many_metrics_are_together_what_the_registry_gives(accept: str) -> None:
    pool: Pool[Any] = Pool(Clock(), Protocol)
    backends = tuple(Backend(f"tcp:127.0.0.1:{7000 + each}") for each in range(150))
    observed = Observed("cache", pool, Metrics(), Durations(), backends)

    class Many(Collector):
        def collect(self) -> Iterator[Metric]:
            return whole(pool_families([observed]))

    registry = CollectorRegistry()
    registry.register(Many())
    pieces, content_type = exposition_pieces(pool_families([observed]), accept)
    made = list(pieces)
    assert (b"".join(made), content_type) == exposition(registry, accept)
    assert max(each.count(b"\n") for each in made) <= 220
