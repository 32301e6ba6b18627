"""What stored values must be: of the types a class names, finite, not negative, and text that can be shown.

JSON is held against the annotations of a dataclass or a TypedDict, where `Annotated[str, PATTERN]` is text of that
form; arrays against `Annotated[np.ndarray, "KINDS AXIS ..."]`, where axes of one name have one length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np

LARGEST = {bool: 1, int: 2**63, float: 1e100}  # so that sums of squares are finite too
LEAST = {"counts": 0, "indices": -1}  # -1 where padded
KINDS = {"counts": "iu", "indices": "iu", "numbers": "f", "texts": "U", "flags": "b"}  # -> of numpy's types


@cache
def hints(cls: type) -> Mapping[str, Any]:
    """Field -> its type."""
    return get_type_hints(cls, include_extras=True)


@cache
def needed(cls: Any) -> frozenset[str]:
    """Fields that may not be missing: they have no default, or are not marked NotRequired."""
    if is_typeddict(cls):
        return frozenset(name for name, hint in hints(cls).items() if get_origin(hint) is not NotRequired)
    return frozenset(f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING)


def problem(cls: type, values: Mapping[str, Any], needed: frozenset[str] = frozenset()) -> str:
    """What is wrong with JSON values of fields of `cls`, the field first; "" where nothing is."""
    if wrong := (values.keys() - hints(cls).keys()) | (needed - values.keys()):
        return f"has unknown or missing fields: {_named(wrong)}"
    return next((why for name, value in values.items() if (why := _wrong(value, hints(cls)[name], name))), "")


@cache
def layout(cls: type) -> Mapping[str, str]:
    """Array -> its kind and axes."""
    return {name: get_args(hint)[1] for name, hint in hints(cls).items() if get_origin(hint) is Annotated}


def array_problem(arrays: Mapping[str, np.ndarray], layout: Mapping[str, str]) -> str:
    """What is wrong with stored arrays, the name first; "" where nothing is."""
    if wrong := arrays.keys() ^ layout.keys():
        return f"has unknown or missing arrays: {_named(wrong)}"
    lengths: dict[str, int] = {}
    for name, told in layout.items():
        kind, *axes = told.split()
        array = arrays[name]
        if array.dtype.kind not in KINDS[kind] or array.ndim != len(axes):
            return f"{name} must be {kind} ({', '.join(axes)}), got {array.dtype} of shape {array.shape}"
        for axis, length in zip(axes, array.shape, strict=True):
            known = lengths.setdefault(axis, int(axis) if axis.isdigit() else length)
            if known != length:
                return f"{name} must be ({', '.join(axes)}) where {axis} is {known}, got {array.shape}"
        if why := _wrong_within(array, kind):
            return f"{name} {why}"
    return ""


def _named(names: Iterable[str]) -> str:
    """As they can be shown, whatever characters they are of."""
    return ", ".join(ascii(name)[1:-1][:60] for name in sorted(names)[:20])


def _wrong_within(array: np.ndarray, kind: str) -> str:
    if kind in LEAST and array.size and not LEAST[kind] <= int(array.min()) <= int(array.max()) < 2**31:
        return f"must be from {LEAST[kind]} to 2^31 - 1, got {array.min()} to {array.max()}"
    if kind == "numbers" and not np.isfinite(array).all():
        return "holds numbers that are not finite"
    if kind == "texts" and not all(text.isprintable() for text in array.flat):
        return "holds characters that cannot be shown"
    return ""


def _wrong(value: Any, kind: Any, where: str) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return _wrong_any(value, where)
    if origin in (Union, UnionType):
        found = [_wrong(value, one, where) for one in inner]
        return "" if "" in found else found[0]
    if origin is NotRequired:
        return _wrong(value, inner[0], where)
    if origin is Annotated:
        why = _wrong(value, inner[0], where)
        return why or ("" if re.fullmatch(inner[1], value) else f"{where} must look like {inner[1]}, got {value!a:.60}")
    if is_typeddict(kind):
        if not isinstance(value, dict):
            return _not(value, "map", where)
        return f"{where}: {why}" if (why := problem(kind, value, needed(kind))) else ""
    if origin is tuple:
        return _wrong_tuple(value, inner, where)
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


def _wrong_tuple(value: Any, kinds: Sequence[Any], where: str) -> str:
    if not isinstance(value, list | tuple) or len(value) != len(kinds):
        return _not(value, f"list of {len(kinds)}", where)
    parts = enumerate(zip(value, kinds, strict=True))
    return next((why for place, (one, kind) in parts if (why := _wrong(one, kind, f"{where}.{place}"))), "")


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
    if isinstance(value, int | float) and not abs(value) <= LARGEST[type(value)]:  # NaN is no less
        return f"{where} must be a finite number, got {value!a:.60}"
    return ""


def _not(value: Any, kind: str, where: str) -> str:
    return f"{where} must be a {kind}, got {value!a:.60}"
