"""PostgreSQL and pgbouncer as child processes, each in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.net.servers import Server, free_port
from tests.rigs.patience import PATIENCE

__all__ = ["PgBouncer", "Postgres", "binary_folder", "make_cluster", "make_standby"]


def binary_folder() -> str | None:
    """Where the programs of the server are: Debian has them in a folder for each version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if found:
        return str(found[-1].parent)
    here = shutil.which("postgres")
    return None if here is None else str(Path(here).parent)


def _as_user(command: list[str]) -> list[str]:
    """The command as the user C{postgres}, if we are root: the server refuses to run as root."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]


def _give(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")


def make_cluster(binaries: str, folder: Path) -> None:
    """Make a cluster with the user C{postgres}, who needs the password C{secret}."""
    _give(folder)
    password = folder / "password"
    password.write_text("secret\n")
    _give_file(password)
    arguments = ["-D", str(folder / "data"), "-U", "postgres", "-A", "scram-sha-256"]
    command = [f"{binaries}/initdb", *arguments, f"--pwfile={password}", "--no-sync"]
    subprocess.run(_as_user(command), check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)


def make_standby(reactor: Any, binaries: str, folder: Path, primary: Postgres) -> Postgres:
    """A server that follows another by streaming replication, with a copy of its cluster."""
    _give(folder)
    data = ["-D", str(folder / "data"), "--write-recovery-conf", "--no-sync"]
    source = ["-d", primary.conninfo, "--checkpoint=fast", "--wal-method=stream"]
    command = _as_user([f"{binaries}/pg_basebackup", *data, *source])
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, timeout=PATIENCE)
    return Postgres(reactor, binaries, folder, ready=b"ready to accept read-only connections")


def _give_file(file: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(file, "postgres", "postgres")


class Postgres(Server):
    """A PostgreSQL server on a cluster that was made by C{make_cluster}."""

    def __init__(
        self,
        reactor: Any,
        binaries: str,
        folder: Path,
        *settings: str,
        ready: bytes = b"ready to accept connections",
    ) -> None:
        port = free_port()
        every = ["listen_addresses=127.0.0.1", f"port={port}", "fsync=off", *settings]
        every.append(f"unix_socket_directories={folder}")
        options = [word for each in every for word in ("-c", each)]
        command = _as_user([f"{binaries}/postgres", "-D", str(folder / "data"), *options])
        command[0] = shutil.which(command[0]) or command[0]
        super().__init__(reactor, command, folder, port, ready)
        self.conninfo = f"host=127.0.0.1 port={port} user=postgres password=secret"

    async def stop(self) -> None:
        """End it, and its clients' connections, and wait until it is gone."""
        await self._end("INT")


class PgBouncer(Server):
    """A pgbouncer in front of a PostgreSQL server, which gives a connection per transaction."""

    def __init__(self, reactor: Any, binary: str, folder: Path, behind: Postgres) -> None:
        _give(folder)
        port = free_port()
        users = folder / "users"
        users.write_text('"postgres" "secret"\n')
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host=127.0.0.1 port={behind.port}\n"
            f"[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\nauth_type=plain\n"
            f"auth_file={users}\npool_mode=transaction\nunix_socket_dir=\nmax_client_conn=100\n"
        )
        for each in (users, settings):
            _give_file(each)
        command = _as_user([binary, str(settings)])
        command[0] = shutil.which(command[0]) or command[0]
        super().__init__(reactor, command, folder, port, b"process up")
        self.conninfo = f"host=127.0.0.1 port={port} user=postgres password=secret dbname=postgres"
