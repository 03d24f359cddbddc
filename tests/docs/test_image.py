"""The Dockerfile: what it copies, and what it starts."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

from kolus.daemon.tap import Options
from tests.net.child import CHECKOUT

DOCKERFILE = (CHECKOUT / "contrib" / "docker" / "Dockerfile").read_text(encoding="utf-8")


def test_the_image_is_made_of_all_that_a_wheel_is_made_of() -> None:
    copied = {
        each
        for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE)
        for each in line.split()
    }
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    its: Any = project["project"]
    needed = {"pyproject.toml", "setup.py", its["readme"], *its["license-files"]}
    modules = project["tool"]["setuptools"]["py-modules"]
    needed |= {each.partition(".")[0] for each in [*modules, "kolus"]}
    assert copied == needed
    assert all((CHECKOUT / each).exists() for each in copied)


def test_the_extras_of_the_image_are_there() -> None:
    (named,) = re.findall(r"'\.\[(.*)\]'", DOCKERFILE)
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(named.split(",")) <= set(project["project"]["optional-dependencies"])


def test_what_the_image_starts_is_the_daemon_with_flags_that_it_has() -> None:
    commands = re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", DOCKERFILE, re.MULTILINE)
    _, *words = [word for each in commands for word in json.loads(each)]
    given = words[words.index("kolus") + 1 :]
    assert given[::2] == ["--config"]
    assert all(hasattr(Options, f"opt_{each.removeprefix('--')}") for each in given[::2])
