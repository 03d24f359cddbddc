"""Hides secrets in text that goes into messages: what follows the name of a password or a token."""

from __future__ import annotations

import re

__all__ = ["hide_secrets"]

_NAME = r"[\w-]*(?:passw|passphrase|secret|token|api_?key|credential)[\w-]*"
_NAMED = re.compile(
    rf"(?i)(\b{_NAME}\b['\"]?\s*[=:]\s*)(b?'(?:\\.|[^'])*'|b?\"(?:\\.|[^\"])*\"|(?:\\.|[^\s:,;&)>}}])+)"
)
_IN_URL = re.compile(r"(://[^/@\s:]*:)[^/@\s]+(?=@)")


def hide_secrets(text: str) -> str:
    """The text with C{***} for each value whose name says that it is a secret, such as
    C{socksPassword=...} in an endpoint string, and for a password in a URL."""
    if "=" not in text and ":" not in text:
        return text
    return _IN_URL.sub(r"\1***", _NAMED.sub(r"\1***", text))
