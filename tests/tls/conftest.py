"""An authority and the files that it signs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
import trustme

__all__ = ["Files"]


class Files:
    """Writes certificates into a folder of the test.

    @ivar ca: the file of the authority.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.ca = str(folder / "authority.crt")
        self.authority.cert_pem.write_to_path(self.ca)

    def write(
        self,
        name: str,
        *identities: str,
        authority: trustme.CA | None = None,
        expires_at: datetime | None = None,
    ) -> str:
        """A file with a key and the chain of a certificate for these names; its path."""
        issued = (authority or self.authority).issue_cert(*identities, not_after=expires_at)
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        issued.private_key_and_cert_chain_pem.write_to_path(str(path))
        return str(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)
