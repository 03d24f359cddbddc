"""A child process that is watched from outside: its output, memory, descriptors, processor time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.rigs.patience import PATIENCE

__all__ = ["RUN", "Process", "Sample"]

RUN = "from twisted.scripts.twistd import run; run()"
"""The program of twistd."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A process at one moment: its age and processor time in seconds, bytes of memory, and open
    descriptors without those of its clients."""

    age: float
    memory: int
    descriptors: int
    busy: float


class Process:
    """A child process, whose output goes to a file."""

    def __init__(self, stack: ExitStack, log: Path, *command: object) -> None:
        self.log = log
        self.samples: list[Sample] = []
        self._began = time.monotonic()
        with log.open("wb") as file:
            words = [sys.executable, *map(str, command)]
            self.child = subprocess.Popen(words, stdout=file, stderr=file)
        stack.callback(self._kill)

    def _kill(self) -> None:
        self.child.kill()
        self.child.wait()

    def wait_for(self, text: str) -> None:
        """Wait until it has said so.

        @raise AssertionError: it did not.
        """
        for _ in range(int(20 * PATIENCE)):
            if text in self.log.read_text():
                return
            assert self.child.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"{text!r} never came:\n{self.log.read_text()}")

    def sample(self, clients: int = 0) -> Sample:
        """
        @param clients: so many clients, each with a connection to a backend, are there now.
        """
        folder = Path(f"/proc/{self.child.pid}")
        pages = int((folder / "statm").read_text().split()[1])
        made = Sample(
            time.monotonic() - self._began,
            pages * os.sysconf("SC_PAGESIZE"),
            len(os.listdir(folder / "fd")) - 2 * clients,
            self._busy(),
        )
        self.samples.append(made)
        return made

    def _busy(self) -> float:
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
