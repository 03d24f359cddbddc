"""What the type of a field of the settings says about its key: which values it may have.

Functions only.
"""

from __future__ import annotations

import types
from dataclasses import MISSING, Field, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin

from kolus.backend import Backend

__all__ = ["NONE", "class_of", "is_list", "is_required", "kinds_of"]

NONE = "none"
"""In a file and on a command line, which have no C{None}: a number that has no bound."""


def class_of(hint: Any) -> type[Any] | None:
    """The class of settings that a field holds; C{None}: it holds a value."""
    for each in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        if is_dataclass(each) and isinstance(each, type) and each is not Backend:
            return each
    return None


def kinds_of(hint: Any) -> set[Any]:
    """The types that a value may have; those of its words if it is one of several words."""
    origin = get_origin(hint)
    if origin is Literal:
        return {type(each) for each in get_args(hint)}
    if origin in (Union, types.UnionType):
        return {kind for each in get_args(hint) for kind in kinds_of(each)}
    return {hint}


def is_list(hint: Any) -> bool:
    """Whether a field holds several values."""
    return get_origin(hint) is tuple


def is_required(field: Field[Any]) -> bool:
    """Whether a field has no default, so that its key must be given."""
    return field.default is MISSING and field.default_factory is MISSING
