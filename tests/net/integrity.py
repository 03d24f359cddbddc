"""Random connections through a front and without it: what is delivered, and what is not.

By hand: C{python -m tests.net.integrity --connections 10000 --seed 7}. Each connection is a script
of what both sides send, and how each of them ends: by closing, by closing its half first, or by a
reset after its bytes. The same script is run directly. What arrives through the front must be all
that arrives directly.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.net.servers import free_port
from tests.rigs.patience import PATIENCE

__all__ = ["Outcome", "Script", "compare", "front_before", "run_scripts"]

_RESET = struct.pack("ii", 1, 0)
_AT_ONCE = 50


@dataclass(frozen=True)
class Script:
    """What one connection does. Only one side resets, and only after the other has said all.

    @ivar number: names it, in the first four bytes that the client sends.
    @ivar question: what the client sends.
    @ivar answer: what the backend sends.
    @ivar end: "half": the client closes its half, then the backend answers; "whole": the backend
        answers and closes first; "client resets" or "backend resets": after its bytes.
    """

    number: int
    question: bytes
    answer: bytes
    end: str

    @classmethod
    def draw(cls, number: int, rng: random.Random) -> Script:
        sizes = [0, 1, 100, 3000, 70_000, 500_000, 2_000_000]
        weights = [3, 3, 10, 10, 6, 2, 1]
        first, second = rng.choices(sizes, weights, k=2)
        end = rng.choice(["half", "half", "whole", "client resets", "backend resets"])
        if "resets" in end:
            first, second = min(first, 60_000), min(second, 60_000)
        return cls(number, rng.randbytes(first), rng.randbytes(second), end)


@dataclass
class Outcome:
    """What arrived: the bytes at each side, and whether the stream there was broken."""

    question: bytes = b""
    answer: bytes = b""
    backend_broken: bool = False
    client_broken: bool = False


class Backend:
    """Plays the backend's part of every script."""

    def __init__(self, scripts: list[Script]) -> None:
        self.scripts = scripts
        self.outcomes = [Outcome() for _ in scripts]
        self.served = [asyncio.Event() for _ in scripts]
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[writer] = task
        try:
            await self._play(reader, writer)
        finally:
            del self._open[writer]

    async def leave(self) -> None:
        """Close what is open: a front may have connected for a client that reset first.

        A loop that ends cancels the tasks that are left, and asyncio logs that as an error.
        """
        for writer in self._open:
            writer.transport.abort()
        await asyncio.gather(*self._open.values())

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            number = struct.unpack("!I", await reader.readexactly(4))[0]
        except (asyncio.IncompleteReadError, OSError):
            await _close(writer)
            return
        script, outcome = self.scripts[number], self.outcomes[number]
        try:
            if script.end == "backend resets":
                outcome.question = await reader.readexactly(len(script.question))
                writer.write(script.answer)
                await writer.drain()
                _reset(writer)
                return
            if script.end == "whole":
                writer.write(script.answer)
                writer.write_eof()
            outcome.question, outcome.backend_broken = await _read_all(reader)
            if script.end == "half":
                writer.write(script.answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            outcome.backend_broken = True
        finally:
            self.served[number].set()
            await _close(writer)


async def _read_all(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    got = bytearray()
    try:
        while piece := await reader.read(1 << 16):
            got += piece
    except OSError:
        return bytes(got), True
    return bytes(got), False


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close a stream, and take the error that ended it, if any: else asyncio logs that."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


async def _client(script: Script, outcome: Outcome, port: int, served: asyncio.Event) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(struct.pack("!I", script.number))
        if script.end == "whole":
            outcome.answer, outcome.client_broken = await _read_all(reader)
            writer.write(script.question)
            await writer.drain()
        elif script.end == "client resets":
            writer.write(script.question)
            await writer.drain()
            _reset(writer)
        else:
            writer.write(script.question)
            if script.end == "half":
                writer.write_eof()
            outcome.answer, outcome.client_broken = await _read_all(reader)
    except OSError:
        outcome.client_broken = True
    finally:
        await _close(writer)
    await asyncio.wait_for(served.wait(), PATIENCE)


@contextlib.asynccontextmanager
async def front_before(port: int) -> AsyncIterator[int]:
    """A daemon before a port."""
    own = free_port()
    listen = f"tcp:{own}:interface=127.0.0.1"
    options = ["--backend", f"tcp:127.0.0.1:{port}", "--listen", listen, "--limit", "200"]
    process = subprocess.Popen(
        [sys.executable, "-m", "twisted", "kolus", *options], stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(int(20 * PATIENCE)):
            try:
                socket.create_connection(("127.0.0.1", own), 1).close()
                break
            except OSError:
                await asyncio.sleep(0.05)
        yield own
    finally:
        process.kill()
        process.wait()


async def run_scripts(scripts: list[Script], *, through_a_front: bool) -> list[Outcome]:
    """Run scripts, fifty at a time, and tell what arrived of each."""
    backend = Backend(scripts)
    server = await asyncio.start_server(backend.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    room = asyncio.Semaphore(_AT_ONCE)

    async def run(script: Script, at: int) -> None:
        async with room:
            outcome, served = backend.outcomes[script.number], backend.served[script.number]
            await _client(script, outcome, at, served)

    async with contextlib.AsyncExitStack() as stack:
        if through_a_front:
            port = await stack.enter_async_context(front_before(port))
        await asyncio.gather(*[run(each, port) for each in scripts])
    server.close()
    await backend.leave()
    return backend.outcomes


def compare(scripts: list[Script], direct: list[Outcome], through: list[Outcome]) -> list[str]:
    """What arrived directly, and not through the front."""
    faults = []
    for script, one, other in zip(scripts, direct, through, strict=True):
        for side in ("question", "answer"):
            whole, got = getattr(one, side), getattr(other, side)
            if got != whole:
                sizes = f"{len(got)} bytes of {len(whole)}"
                faults.append(f"{script.number}, {script.end}: {sizes} of the {side}")
        for side in ("client_broken", "backend_broken"):
            if getattr(one, side) != getattr(other, side):
                told = f"{getattr(other, side)}, directly {getattr(one, side)}"
                faults.append(f"{script.number}, {script.end}: {side} is {told}")
    return faults


def main() -> None:
    """Run it by hand."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}")
    rng = random.Random(chosen.seed)
    faults: list[str] = []
    left = chosen.connections
    while left > 0:
        scripts = [Script.draw(number, rng) for number in range(min(left, 1000))]
        direct = asyncio.run(run_scripts(scripts, through_a_front=False))
        through = asyncio.run(run_scripts(scripts, through_a_front=True))
        faults += compare(scripts, direct, through)
        left -= len(scripts)
        print(f"{chosen.connections - left} connections, {len(faults)} faults", flush=True)
    for each in faults[:20]:
        print(each)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
