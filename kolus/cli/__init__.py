"""The command C{kolus}: shows and steers a running daemon, over its admin server.

This package knows HTTP and the answers of the API, and nothing else of kolus: it needs no reactor.
"""

from kolus.cli.command import main

__all__ = ["main"]
