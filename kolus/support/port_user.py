"""C{port_user}: which process listens on a TCP port of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["port_user"]

_LISTENS = "0A"


def port_user(port: int, proc: Path = Path("/proc")) -> str | None:
    """Look into Linux's tables. Only root sees the processes of other users.

    @return: the number of the process and its name; C{None} if that is not known.
    """
    sockets = {f"socket:[{inode}]" for inode in _inodes(port, proc)}
    if not sockets:
        return None
    for process in proc.glob("[0-9]*"):
        with suppress(OSError):  # it is another user's, or has ended
            if any(_is_of(each, sockets) for each in (process / "fd").iterdir()):
                return f"process {process.name}, {(process / 'comm').read_text().strip()}"
    return None


def _is_of(descriptor: Path, sockets: set[str]) -> bool:
    with suppress(OSError):  # it is closed meanwhile, as that of the folder is
        return os.readlink(descriptor) in sockets
    return False


def _inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            rows = [line.split() for line in (proc / "net" / table).read_text().splitlines()[1:]]
        except OSError:
            continue
        for row in rows:
            if row[3] == _LISTENS and int(row[1].rpartition(":")[2], 16) == port:
                yield row[9]
