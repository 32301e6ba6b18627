"""What stored values must be: of the types a dataclass names, finite, not negative, and text that can be shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

LARGEST = 2.0**63


@cache
def hints(cls: type) -> Mapping[str, Any]:
    """Field -> its type."""
    return get_type_hints(cls)


def problem(cls: type, values: Mapping[str, Any]) -> str:
    """What is wrong with JSON values of fields of `cls`, the field first; "" where nothing is."""
    return next((why for name, value in values.items() if (why := _wrong(value, hints(cls)[name], name))), "")


def _wrong(value: Any, kind: Any, where: str) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return _wrong_any(value, where)
    if origin in (Union, UnionType):
        found = [_wrong(value, one, where) for one in inner]
        return "" if "" in found else found[0]
    if origin is Literal:
        return "" if value in inner else f"{where} must be one of {', '.join(map(str, inner))}, got {value!a:.60}"
    if origin in (list, Sequence):
        return (
            _wrong_items(enumerate(value), inner[0], where) if isinstance(value, list) else _not(value, "list", where)
        )
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _wrong_items(value.items(), inner[1], where) if isinstance(value, dict) else _not(value, "map", where)
    allowed = (int, float) if kind is float else kind
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        return _not(value, kind.__name__, where)
    if kind in (int, float) and value < 0:
        return f"{where} must not be negative, got {value!a:.60}"
    return _wrong_any(value, where)


def _wrong_items(items: Any, kind: Any, where: str) -> str:
    for name, value in items:
        if why := _wrong_any(name, where) or _wrong(value, kind, f"{where}.{name}"):
            return why
    return ""


def _wrong_any(value: Any, where: str) -> str:
    """Of any JSON value, all the way down."""
    if isinstance(value, dict):
        return _wrong_items(value.items(), Any, where)
    if isinstance(value, list):
        return _wrong_items(enumerate(value), Any, where)
    if isinstance(value, str) and not value.isprintable():
        return f"{where} holds characters that cannot be shown: {value!a:.60}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where} must be a finite number, got {value}"
    if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        return f"{where} is too large a whole number"
    return ""


def _not(value: Any, kind: str, where: str) -> str:
    return f"{where} must be a {kind}, got {value!a:.60}"
