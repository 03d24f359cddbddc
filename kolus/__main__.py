"""The command C{kolus}, as C{python -m kolus}."""

from __future__ import annotations

import sys

from kolus.cli import main

__all__ = ()

if __name__ == "__main__":
    sys.exit(main())
