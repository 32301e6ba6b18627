"""Refusing impossible options, with what was given and what is known."""

from __future__ import annotations

from collections.abc import Sequence


def one_of(option: str, given: str, known: Sequence[str]) -> None:
    """Raises ValueError unless `given` is among `known`."""
    if given not in known:
        raise ValueError(f"{option}={given!r} is not known; choose one of {', '.join(known)}")


def at_least(option: str, given: float, least: float) -> None:
    """Raises ValueError unless `given` is a number of at least `least`."""
    if not given >= least:
        raise ValueError(f"{option}={given!r} must be at least {least}")


def above_zero(option: str, given: float) -> None:
    """Raises ValueError unless `given` is a positive number."""
    if not given > 0:
        raise ValueError(f"{option}={given!r} must be above 0")


def between(option: str, given: float, least: float, most: float) -> None:
    """Raises ValueError unless `given` is a number from `least` to `most`, both included."""
    if not least <= given <= most:
        raise ValueError(f"{option}={given!r} must be between {least} and {most}")
