"""What every door does with what it is told and what it says: names, lists and numbers are checked before any work."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from harness.data.split import DataError
from harness.record import RecordError
from harness.spec.job import SpecError

LONGEST = 60  # characters of a refused value that are shown


class Door(typer.Typer):
    """A command of ours.  A terminal that cannot hold a character shows `?`, in its help and errors too."""

    def __init__(self) -> None:
        super().__init__(pretty_exceptions_enable=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        lenient_output()
        return super().__call__(*args, **kwargs)


@contextmanager
def refusals(kept: str = "nothing was lost") -> Iterator[None]:
    """Bad input becomes one line and exit 2; Ctrl-C says what is `kept`."""
    err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    try:
        yield
    except (SpecError, DataError, RecordError, OSError) as error:
        err.print(f"error: {printable(str(error))}", style="red")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        err.print(f"interrupted: {kept}")
        raise typer.Exit(130) from None


def printable(text: str) -> str:
    """One line that no terminal acts on: what cannot be shown is written as its escape, such as `\\n` or `\\x1b`."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def quoted(text: str) -> str:
    """A value as an error shows it, cut where it is long."""
    return ascii(text) if len(text) <= LONGEST else f"{text[:LONGEST]!a}... ({len(text):,} characters)"


def check(options: Any) -> None:
    """Every text and number of a dataclass of options.  Raises SpecError."""
    for f in fields(options):
        value = getattr(options, f.name)
        if isinstance(value, str | Path | list):
            check_names(**{f.name: "".join(value) if isinstance(value, list) else str(value)})
        if isinstance(value, float):
            check_finite(**{f.name: value})


def check_names(**given: str | None) -> None:
    """Raises SpecError where an option holds control characters, line feeds or halves of characters."""
    for option, text in given.items():
        if text and not text.isprintable():
            raise SpecError(f"--{option.replace('_', '-')} holds characters that cannot be shown: {quoted(text)}")


def check_finite(**given: float | None) -> None:
    """Raises SpecError where the number of an option is none, or endless: `inf` lies within any bound but an upper."""
    for option, number in given.items():
        if number is not None and not math.isfinite(number):
            raise SpecError(f"--{option.replace('_', '-')} must be finite, got {number}")


def words(text: str, option: str) -> list[str]:
    """A comma-separated list; [] where the option was not given.  Raises SpecError for a list of nothing, as in `,`."""
    found = [word.strip() for word in text.split(",") if word.strip()]
    if text and not found:
        raise SpecError(f"--{option} names nothing, got {quoted(text)}")
    return found


def whole_numbers(text: str, option: str, example: str, least: int, most: int) -> list[int]:
    """Comma-separated whole numbers from `least` to `most`; [] where not given.  Raises SpecError."""
    told = words(text, option)  # its error is a ValueError too
    try:
        numbers = [int(word) for word in told]
    except ValueError:
        raise SpecError(f"--{option} takes whole numbers such as {example}, got {quoted(text)}") from None
    if any(not least <= number <= most for number in numbers):
        raise SpecError(f"--{option} takes numbers from {least} to {most}, got {quoted(text)}")
    return numbers


def lenient_output() -> None:
    """A terminal that cannot hold a character shows `?` in its place: what is done does not fail for how it is told."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
