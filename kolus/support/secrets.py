"""Hides secrets in text that goes into messages: what follows the name of a password or a token."""

from __future__ import annotations

import re

__all__ = ["hide_secrets", "shown"]

# privateKey of an endpoint string names a file.
_PARTS = (
    "passw|passphrase|pwd|secret|token|credential|authorization|"
    "api[-_]?key|access[-_]?key|private[-_]key"
)
_NAME = rf"[\w-]{{0,40}}(?:{_PARTS})[\w-]{{0,40}}"
_VALUE = r"b?'(?:\\.|[^'\\])*'|b?\"(?:\\.|[^\"\\])*\"|(?:\\.|[^\s:,;&)>}])+"
_NAMED = re.compile(
    rf"(?i)((?:\b{_NAME}\b['\"]?\s*[=:]|\b(?:pass|pw|auth)=)\s*)"
    rf"(?:(?:basic|bearer)\s+)?(?:{_VALUE})"
)
_IN_URL = re.compile(r"(://[^/@\s:]*:)[^/@\s]+(?=@)")


def hide_secrets(text: str) -> str:
    """The text with C{***} for each value whose name says that it is a secret, such as
    C{socksPassword=...} in an endpoint string, and for a password in a URL."""
    if "=" not in text and ":" not in text:
        return text
    return _IN_URL.sub(r"\1***", _NAMED.sub(r"\1***", text))


def shown(value: object) -> str:
    """A value in a message about a mistake: its C{repr}, without the secrets that are in it."""
    return hide_secrets(repr(value))
