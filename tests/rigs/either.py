"""Runs a test with exclusive and with shared connections."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from twisted.internet.protocol import Protocol

from tests.rigs.pools import Managed
from tests.rigs.sharing import Sharing

__all__ = ["OneSlot", "either", "use"]


class OneSlot(Sharing):
    """A C{SharedManager} whose connections have one slot each by default."""

    defaults: ClassVar[dict[str, Any]] = Sharing.defaults | {"slots": 1}

    def __init__(self, protocol: Any = Protocol, **settings: Any) -> None:
        super().__init__(protocol, **settings)


either = pytest.mark.parametrize(
    "rig_of", [Managed, OneSlot], ids=["ConnectionManager", "SharedManager"]
)


def use(rig: Any, count: int = 1) -> None:
    """Lease C{count} connections at once, and release them."""
    for lease in [rig.lease() for _ in range(count)]:
        lease.release()
