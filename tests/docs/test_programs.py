"""Each program in the README and in C{docs} runs, and prints what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor, ssl
from twisted.internet.endpoints import TCP4ServerEndpoint, wrapServerTLS
from twisted.internet.protocol import Factory, Protocol

from tests.clients.postgres_servers import Postgres
from tests.docs.running import PROGRAMS, printed_by
from tests.net.servers import Server
from tests.rigs.pages import Block

README_PRINTS = {
    "kolus.clients.http": "200 b'a page'\n",
    "kolus.clients.postgres": "(42,)\n",
    "kolus.clients.redis": "hello\n",
    "MemCacheProtocol": "(0, b'hello')\n",
}
ASKED = {
    "website": "http://example.com/",
    "postgres": "kolus.clients.postgres",
    "redis": "127.0.0.1:6379",
    "memcached": "127.0.0.1:11211",
    "tls": "tls:localhost:5433",
    "itself": "TCP4ServerEndpoint(reactor, 0",
}
"""What a program has in it that asks this server."""


def programs(server: str) -> list[Block]:
    return [block for block in PROGRAMS if ASKED[server] in block.text]


def expected(block: Block) -> str:
    if block.page.name != "README.md":
        assert block.prints is not None, f"{block} does not say what it prints"
        return block.prints
    (prints,) = [text for name, text in README_PRINTS.items() if name in block.text]
    return prints


def for_each(server: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", programs(server), ids=repr)


def test_every_program_asks_one_server_that_is_here() -> None:
    asked = [block for server in ASKED for block in programs(server)]
    assert sorted(map(repr, asked)) == sorted(map(repr, PROGRAMS))


def test_the_readme_has_a_program_for_each_client_and_one_for_other_protocols() -> None:
    texts = [block.text for block in PROGRAMS if block.page.name == "README.md"]
    assert len(texts) == len(README_PRINTS)
    assert all(any(name in text for text in texts) for name in README_PRINTS)
    # Imports, blank lines and the frame aside, each has ten lines or fewer.
    for text in texts:
        assert len([line for line in text.splitlines() if line.startswith("    ")]) <= 10


@pytest.mark.long
@for_each("website")
@pytest_twisted.ensureDeferred
async def test_programs_that_ask_a_website(block: Block, website: str, tmp_path: Path) -> None:
    assert await printed_by(block, tmp_path, {ASKED["website"]: website}) == expected(block)


@pytest.mark.long
@for_each("memcached")
@pytest_twisted.ensureDeferred
async def test_programs_that_ask_memcached(
    block: Block, memcached_port: int, tmp_path: Path
) -> None:
    changes = {"11211": str(memcached_port)}
    assert await printed_by(block, tmp_path, changes) == expected(block)


@pytest.mark.long
@for_each("itself")
@pytest_twisted.ensureDeferred
async def test_programs_that_ask_their_own_server(block: Block, tmp_path: Path) -> None:
    assert await printed_by(block, tmp_path, {}) == expected(block)


@pytest.mark.long
@for_each("redis")
@pytest_twisted.ensureDeferred
async def test_programs_that_ask_redis(block: Block, redis: Server, tmp_path: Path) -> None:
    changes = {"tcp:127.0.0.1:6379": redis.endpoint}
    assert await printed_by(block, tmp_path, changes) == expected(block)


@pytest.mark.long
@for_each("postgres")
@pytest_twisted.ensureDeferred
async def test_programs_that_ask_postgres(block: Block, postgres: Postgres, tmp_path: Path) -> None:
    environment = {"PGPORT": str(postgres.port), "PGPASSWORD": "secret"}
    assert await printed_by(block, tmp_path, {}, environment) == expected(block)


@pytest.mark.long
@for_each("tls")
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest_twisted.ensureDeferred
async def test_programs_that_ask_a_server_that_wants_a_certificate(
    block: Block, tmp_path: Path
) -> None:
    authority = trustme.CA()
    (tmp_path / "roots").mkdir()
    authority.cert_pem.write_to_path(str(tmp_path / "roots" / "root.pem"))
    client = authority.issue_cert("client.example")
    client.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    client.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    its = authority.issue_cert("localhost")
    pem = its.private_key_pem.bytes() + its.cert_chain_pems[0].bytes()
    root = ssl.Certificate.loadPEM(authority.cert_pem.bytes())
    options = ssl.PrivateCertificate.loadPEM(pem).options(root)
    plain = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await wrapServerTLS(options, plain).listen(Factory.forProtocol(Protocol))
    changes = {"localhost:5433": f"localhost:{port.getHost().port}", "/etc/shop": str(tmp_path)}
    try:
        assert await printed_by(block, tmp_path, changes) == expected(block)
    finally:
        await port.stopListening()
