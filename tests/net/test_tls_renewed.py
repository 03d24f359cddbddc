"""Certificates that change: C{invalidate} reads the files that an endpoint string names anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme

from kolus import Backend, ConnectContext, ConnectFailed, Pool
from tests.net.peers import Asker
from tests.net.test_tls import Secure, pytestmark, secure

__all__ = ["pytestmark", "secure"]

MakePool = Callable[..., Pool[Any]]


def trust(authority: trustme.CA, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    authority.cert_pem.write_to_path(str(folder / "root.pem"))


def string(secure: Secure, folder: Path) -> str:
    return f"tls:localhost:{secure.host.port}:trustRoots={folder}"


@pytest_twisted.ensureDeferred
async def test_after_invalidate_the_files_of_a_string_are_read_anew(
    make_pool: MakePool, secure: Secure, tmp_path: Path
) -> None:
    trust(trustme.CA(), tmp_path / "roots")
    pool, backend = make_pool(Asker, backoff=None), Backend(string(secure, tmp_path / "roots"))
    for _ in range(2):
        with pytest.raises(ConnectFailed):
            await pool.connect("us", backend)
        trust(secure.authority, tmp_path / "roots")  # nobody has been told
    pool.invalidate()
    lease = await pool.connect("us", backend)
    lease.release()


@pytest_twisted.ensureDeferred
async def test_a_backend_that_makes_its_endpoints_reads_them_at_each_connect(
    make_pool: MakePool, secure: Secure, tmp_path: Path
) -> None:
    attempts: list[int] = []

    def make(context: ConnectContext) -> str:
        attempts.append(context.attempt)
        return string(secure, tmp_path / "roots")

    trust(trustme.CA(), tmp_path / "roots")
    pool, backend = make_pool(Asker, backoff=None), Backend(make, name="secure")
    with pytest.raises(ConnectFailed):
        await pool.connect("us", backend)
    trust(secure.authority, tmp_path / "roots")
    lease = await pool.connect("us", backend)
    assert attempts == [1, 2]
    lease.release()
