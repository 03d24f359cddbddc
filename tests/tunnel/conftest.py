"""Certificates, for the tests of listeners with TLS."""

from __future__ import annotations

from tests.tls.conftest import files

__all__ = ["files"]
