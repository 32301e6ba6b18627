"""Nested mappings of records seen flat: what differs between several of them?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def differing(flats: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names whose values are not the same everywhere, sorted."""
    names = sorted({name for flat in flats for name in flat})
    return [name for name in names if any(name not in flat or flat[name] != flats[0].get(name) for flat in flats)]
