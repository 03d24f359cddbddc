"""C{hint}: what is said of a word that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches  # kolus.support has this, too, but imports Twisted

__all__ = ["hint"]


def hint(given: str, known: Iterable[str], most: int = 10) -> str:
    """The nearest known word, or else those that there are.

    @param most: names so many at most.
    """
    words = sorted(known)
    by_lower = {each.lower(): each for each in words}
    near = get_close_matches(given.lower(), by_lower, 1)
    if near:
        return f"did you mean {by_lower[near[0]]}?"
    return f"there are: {', '.join(words[:most])}" if words else "there is none"
