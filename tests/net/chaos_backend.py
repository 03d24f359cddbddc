"""A program: an echo server that says C{=} and its name of one letter first.

A client sends the length of what it sends, and whether the server is to close when it has sent all
back. A check sends a length of 0.
"""

from __future__ import annotations

import asyncio
import struct
import sys

__all__ = ["HEAD"]

HEAD = struct.Struct("!I?")


class _Echo(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, name: bytes) -> None:
        self._name = name
        self._head = b""
        self._left: int | None = None
        self._is_to_close = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._left is None:
            self._head += data
            if len(self._head) < HEAD.size:
                return
            self._left, self._is_to_close = HEAD.unpack_from(self._head)
            data = self._name + self._head[HEAD.size :]
            self._left += len(self._name)
        self.transport.write(data)
        self._left -= len(data)
        if self._is_to_close and self._left == 0:
            self.transport.close()

    def eof_received(self) -> bool:
        return False  # to close when all is sent


async def _serve(name: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Echo(b"=" + name.encode()), "127.0.0.1", port, backlog=1024
    )
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
