"""C{HostResolver} with a real name server of C{twisted.names}, and its fallback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer
from zope.interface.verify import verifyObject

from kolus.sources import HostResolver
from tests.net.asking import turn, until
from tests.net.name_servers import NAME, NameServer
from tests.rigs.named_rig import Resolver


@implementer(IResolutionReceiver)
class Heard:
    """What a resolution tells."""

    def __init__(self) -> None:
        self.resolution: Any = None
        self.addresses: list[Any] = []
        self.is_complete = False

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        assert self.resolution is None
        self.resolution = resolutionInProgress

    def addressResolved(self, address: Any) -> None:
        assert self.resolution is not None
        self.addresses.append(address)

    def resolutionComplete(self) -> None:
        assert not self.is_complete
        self.is_complete = True


class Rig:
    """A resolver that asks one name server, and what it asks elsewhere."""

    def __init__(self) -> None:
        self.server = NameServer(reactor)
        self.elsewhere = Resolver()
        self.resolver = HostResolver(reactor, [self.server.address], self.elsewhere)

    def begin(self, name: str = NAME, *details: Any) -> Heard:
        heard = Heard()
        self.resolver.resolveHostName(heard, name, 6379, *details)
        return heard

    async def hear(self, name: str = NAME, *details: Any) -> Heard:
        heard = self.begin(name, *details)
        await until(reactor, lambda: heard.is_complete)
        return heard


@pytest_twisted.async_yield_fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    rig.server.listen()
    yield rig
    await rig.server.stop()


async def in_reactor() -> set[Any]:
    """What the reactor has to do once it has gone round."""
    await turn(reactor)
    return {*reactor.getDelayedCalls(), *reactor.getReaders(), *reactor.getWriters()}


@pytest_twisted.ensureDeferred
async def test_the_addresses_that_the_name_server_knows_are_told(rig: Rig) -> None:
    rig.server.zone.addresses("127.0.0.7", "::7", "127.0.0.6")
    before = await in_reactor()
    heard = await rig.hear()
    assert heard.addresses == [
        IPv4Address("TCP", "127.0.0.7", 6379),
        IPv4Address("TCP", "127.0.0.6", 6379),
        IPv6Address("TCP", "::7", 6379),
    ]
    assert rig.elsewhere.asked == []
    assert await in_reactor() == before


@pytest_twisted.ensureDeferred
async def test_addresses_of_one_kind_alone_may_be_asked_for(rig: Rig) -> None:
    rig.server.zone.addresses("127.0.0.7", "::7")
    heard = await rig.hear(NAME, [IPv6Address], "UDP")
    assert heard.addresses == [IPv6Address("UDP", "::7", 6379)]
    assert rig.server.heard == 1


@pytest_twisted.ensureDeferred
async def test_a_host_that_the_name_server_does_not_know_is_looked_for_elsewhere(rig: Rig) -> None:
    rig.elsewhere.answers = ["127.0.0.9"]
    heard = await rig.hear("elsewhere.test")
    assert heard.addresses == [IPv4Address("TCP", "127.0.0.9", 6379)]
    assert rig.elsewhere.asked[0].name == "elsewhere.test"


@pytest_twisted.ensureDeferred
async def test_a_host_is_looked_for_elsewhere_when_the_name_server_does_not_answer(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kolus.sources.host_resolver._TIMEOUTS", (0.02, 0.02))
    rig.server.answers = False
    rig.elsewhere.answers = ["127.0.0.9"]
    heard = await rig.hear()
    assert heard.addresses == [IPv4Address("TCP", "127.0.0.9", 6379)]
    assert rig.server.heard == 4


@pytest_twisted.ensureDeferred
async def test_a_name_server_that_goes_on_for_ever_is_given_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await in_reactor()
    monkeypatch.setattr("kolus.sources.host_resolver._DEADLINE", 0.05)
    rig.server.answers = False
    rig.elsewhere.answers = []
    heard = await rig.hear()
    assert heard.addresses == []
    assert await in_reactor() == before


@pytest.mark.parametrize("address", ["127.0.0.7", "::7"])
@pytest_twisted.ensureDeferred
async def test_an_address_is_nothing_to_ask_a_name_server_for(rig: Rig, address: str) -> None:
    rig.elsewhere.answers = [address]
    heard = await rig.hear(address)
    assert [each.host for each in heard.addresses] == [address]
    assert rig.server.heard == 0


@pytest_twisted.ensureDeferred
async def test_one_that_is_cancelled_tells_nothing_and_leaves_nothing(rig: Rig) -> None:
    before = await in_reactor()
    rig.server.answers = False
    heard = rig.begin()
    await until(reactor, lambda: rig.server.heard == 2)
    heard.resolution.cancel()
    heard.resolution.cancel()
    assert await in_reactor() == before
    assert not heard.is_complete
    assert rig.elsewhere.asked == []


@pytest_twisted.ensureDeferred
async def test_cancelling_one_that_is_elsewhere_cancels_it_there(rig: Rig) -> None:
    heard = rig.begin("elsewhere.test")
    await until(reactor, lambda: rig.elsewhere.asked)
    heard.resolution.cancel()
    assert rig.elsewhere.asked[0].cancelled == 1


def test_it_is_what_a_reactor_resolves_names_by() -> None:
    assert verifyObject(IHostnameResolver, Rig().resolver)
    with pytest.raises(ValueError, match="a name server must be"):
        HostResolver(reactor, [("dns.test", 53)], Resolver())
