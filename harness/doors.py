"""What every door does with what it is told and what it says: names, lists and numbers are checked before any work."""

from __future__ import annotations

import errno
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from harness.atomic import Unwritable
from harness.data.split import DataError
from harness.record import RecordError
from harness.spec import methods, plugins
from harness.spec.job import SpecError
from harness.spec.names import near

LONGEST = 60  # characters of a refused value that are shown
LONGEST_LINE = 400  # characters of what a library says of an option
UsageError: Any = typer.BadParameter.__mro__[1]  # click's, which lies elsewhere in every version of typer

Plugins = Annotated[
    list[str] | None, typer.Option(metavar="FILE", help="A file with a method of your own; repeatable.")
]
NoPlugins = Annotated[bool, typer.Option("--no-plugins", help="Look at nothing that installed packages bring.")]


class Command(TyperCommand):
    """What cannot be read as options is refused in one line and exit 2, as all else that cannot be."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().make_context(*args, **kwargs)
        except UsageError as error:
            refuse(usage(error, [option for parameter in self.params for option in parameter.opts]))
            raise typer.Exit(2) from None


class Door(typer.Typer):
    """A command of ours.  A terminal that cannot hold a character shows `?`, in its help and errors too."""

    def __init__(self) -> None:
        super().__init__(pretty_exceptions_enable=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        lenient_output()
        return super().__call__(*args, **kwargs)

    def command(self, *args: Any, cls: type[Command] = Command, **kwargs: Any) -> Any:
        return super().command(*args, cls=cls, **kwargs)


def usage(error: Any, known: Sequence[str]) -> str:
    """What is wrong with the words of a command line; of an option that is unknown the nearest of the `known`."""
    if hasattr(error, "possibilities"):
        close = near(error.option_name, [name for name in known if name.startswith("--")])
        said = f"no such option {quoted(error.option_name)}"
        return f"{said}; did you mean {', '.join(close)}?" if close else f"{said}; -h tells those there are"
    said = " ".join(error.format_message().split()).rstrip(".")
    return f"{said[:1].lower()}{said[1:LONGEST_LINE]}"


@contextmanager
def refusals(kept: str = "nothing was lost") -> Iterator[None]:
    """Bad input becomes one line and exit 2; Ctrl-C, and a batch system's SIGTERM, say what is `kept`."""
    try:
        with _ended_in_order():
            yield
    except (SpecError, DataError, RecordError, OSError) as error:
        refuse(of_system(error) if isinstance(error, OSError) else str(error))
        raise typer.Exit(2) from None
    except _Terminated:
        say(f"terminated: {kept}")
        raise typer.Exit(128 + signal.SIGTERM) from None
    except KeyboardInterrupt:
        say(f"interrupted: {kept}")
        raise typer.Exit(130) from None


def of_system(error: OSError) -> str:
    """Which path cannot be read or written and why, without the system's number; our own words as they are."""
    if not isinstance(error.filename, str | Path) or not error.strerror:
        return str(error)
    path, why = Path(error.filename), f"{error.strerror[:1].lower()}{error.strerror[1:]}"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):  # the latter of a folder that was to be made
        path, why = _no_folder(path), "not a directory"
    return f"cannot write to {path}: {why}" if isinstance(error, Unwritable) else f"{path}: {why}"


def _no_folder(path: Path) -> Path:
    """Of a path and those it lies in, the one that is there and no folder; the path itself where there is none."""
    return next((each for each in (path, *path.parents) if os.path.lexists(each) and not each.is_dir()), path)


class _Terminated(KeyboardInterrupt):
    """Somebody asked the process to end."""


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Within, SIGTERM ends things as Ctrl-C does, so that no lock and no half of a file is left."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(*_: object) -> None:
    raise _Terminated


def refuse(why: str) -> None:
    """The one line, beside what a command puts out."""
    say(f"error: {printable(why)}", style="red")


def say(line: str, style: str | None = None) -> None:
    """To people, beside what a command puts out."""
    Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(line, style=style)


def choose_plugins(files: Sequence[str] = (), *, none_installed: bool) -> None:
    """Which methods, data and metrics by others this process looks at; a line for every one that is left out.

    Raises SpecError.
    """
    plugins.choose([Path(file) for file in files], installed=not none_installed)
    for line in methods.left_out():
        say(printable(line))


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
