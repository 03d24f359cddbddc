"""Certificates that are about to expire: the warning, once a day, and until they are renewed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from kolus.backend import Backend
from kolus.config import Config, GroupSettings, ListenerConfig
from kolus.daemon.daemon import make_daemon
from kolus.daemon.expiry_watch import DAY, ExpiryWatch
from kolus.support import time_of_day
from kolus.tls import BackendTLS, Certificate, ListenerTLS
from kolus.tunnel import ListenerSettings
from tests.rigs.staging import messages

BACKENDS = (Backend("tcp:10.0.0.7:6379"),)


def issue(path: Path, days: float) -> str:
    expires = datetime.now(UTC) + timedelta(days=days)
    issued = trustme.CA().issue_cert("shop.test", not_after=expires)
    issued.private_key_and_cert_chain_pem.write_to_path(path)
    return str(path)


def test_a_certificate_that_is_due_is_warned_of_every_day_until_it_is_renewed() -> None:
    clock, now = Clock(), time_of_day()
    certificates = [
        Certificate("listener a", "soon.pem", now + 3.1 * DAY, True),
        Certificate("group b", "gone.pem", now - 5, True),
        Certificate("listener c", "later.pem", now + 100 * DAY, False),
    ]
    watch = ExpiryWatch(clock, lambda: certificates)
    with capturedLogs() as events:
        watch.start()
        told = messages(events)
        assert len(told) == 2
        expected = (
            r"listener a: the certificate in soon.pem expires in 3\.1 days, on ....-..-.. ..:.. "
        )
        assert re.match(expected + "UTC: renew it, and reload with SIGHUP", told[0])
        assert told[1].startswith("group b: the certificate in gone.pem has expired, on ")
        clock.advance(DAY)
        assert len(messages(events)) == 4
        del certificates[:2]
        watch.start()  # a reload
        clock.advance(DAY)
        assert len(messages(events)) == 4
    watch.stop()
    assert clock.getDelayedCalls() == []


def test_the_certificates_of_listeners_and_groups_are_known_by_their_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    soon = issue(tmp_path / "folder" / "soon.test.pem", 5)
    later = issue(tmp_path / "folder" / "default.pem", 50)
    client = issue(tmp_path / "client.pem", 15)
    tls = ListenerTLS(certificates=(str(tmp_path / "folder"),))
    config = Config(
        groups={
            "carts": GroupSettings(backends=BACKENDS, tls=BackendTLS(certificate=client)),
            "plain": GroupSettings(backends=BACKENDS),
        },
        listeners={
            "shop": ListenerConfig(
                listen=("tcp:0",), group="carts", settings=ListenerSettings(tls=tls)
            )
        },
    )
    daemon = make_daemon(Clock(), config)
    known = {each.file: each for each in daemon.certificates}
    assert set(known) == {soon, later, client}
    assert {each.user for each in known.values()} == {"listener shop", "group carts"}
    assert [name for name, each in known.items() if each.is_due] == [soon]
    assert known[client].expires_at == pytest.approx(time_of_day() + 15 * DAY, abs=60)
