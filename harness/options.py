"""Options of a command as frozen dataclasses: one per panel of its help, and the schema of the TOML file of a run.

A field is an option, `epochs: Annotated[int | None, typer.Option(min=1, help="...")] = None`; its class is the panel.
"""

from __future__ import annotations

import inspect
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from harness.spec.job import SpecError
from harness.spec.names import nearest

VERSION = 1  # of the TOML file
WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "text",
    list[str]: "a list of texts",
}


def command(main: Callable[..., None], *groups: type) -> Callable[..., None]:
    """`main(context, *values)`, a value of each dataclass, as the function of flat options that typer takes."""

    def flat(context: typer.Context, **given: Any) -> None:
        main(context, *(group(**{f.name: given[f.name] for f in fields(group)}) for group in groups))

    parameters = [_parameter(group, f) for group in groups for f in fields(group)]
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    flat.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
    flat.__annotations__ = {p.name: p.annotation for p in (context, *parameters)}
    return flat


def _parameter(group: type, field: Field) -> inspect.Parameter:
    """An option on the panel of its group; on none where the group has no docstring that names one."""
    hint, option = get_args(get_type_hints(group, include_extras=True)[field.name])
    option = copy(option)
    option.rich_help_panel = getattr(group, "PANEL", None)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=_default(field), annotation=Annotated[hint, option]
    )


def _default(field: Field) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def written(values: Sequence[Any]) -> str:
    """TOML with a table for each group; what is None, or a folder by default, is left out."""
    import tomli_w

    tables = {
        type(value).__name__.lower(): {
            f.name: _plain(own)
            for f in fields(value)
            if (own := getattr(value, f.name)) is not None and not (isinstance(own, Path) and own == _default(f))
        }
        for value in values
    }
    return tomli_w.dumps({"version": VERSION, **{name: table for name, table in tables.items() if table}})


def configured(context: typer.Context, path: Path, values: Sequence[Any]) -> list[Any]:
    """The groups with what the file says.  Raises SpecError, one line that names the file."""
    stored = _stored(path)
    known = {type(value).__name__.lower(): value for value in values}
    for name, table in stored.items():
        if name not in known or not isinstance(table, dict):
            raise SpecError(f"{path} has no table {name!r}{nearest(name, known)}")
        hints = get_type_hints(type(known[name]), include_extras=True)
        for key, value in table.items():
            where, told = f"{path}: {name}.{key}", getattr(known[name], key, None)
            if key not in hints:
                raise SpecError(f"{path}: [{name}] has no key {key!r}{nearest(key, hints)}")
            found = _checked(hints[key], value, where)
            if on_command_line(context, key) and found != told:
                raise SpecError(f"--{key.replace('_', '-')} {_plain(told)} contradicts {where} = {_plain(found)}")
            known[name] = replace(known[name], **{key: found})
    return list(known.values())


def _stored(path: Path) -> Mapping[str, Any]:
    """Tables of a file of this version or an older one.  Raises SpecError."""
    try:
        stored = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise SpecError(f"{path} is not TOML: {error}") from None
    version = stored.pop("version", None)
    if type(version) is not int or version < 1:
        raise SpecError(f"{path} must say version = {VERSION}, got {version!r}")
    if version > VERSION:
        raise SpecError(f"{path} has version {version}, this harness reads up to {VERSION}: update the harness")
    return stored


def _checked(hint: Any, value: Any, where: str) -> Any:
    """A value of TOML as the annotated option takes it, within its bounds.  Raises SpecError."""
    kind, option = get_args(hint)
    kind = next((k for k in get_args(kind) if k is not type(None) and kind != list[str]), kind)
    if not _fits(value, kind):
        raise SpecError(f"{where} must be {WORDS[kind]}, got {value!r}")
    if kind in (int, float) and not _within(value, option.min, option.max):
        raise SpecError(f"{where} must be {_range(option)}, got {value!r}")
    return Path(value) if kind is Path else value


def _fits(value: Any, kind: Any) -> bool:
    """Nothing is converted, but that a whole number is a number and a path is written as text."""
    if kind == list[str]:
        return isinstance(value, list) and all(isinstance(word, str) for word in value)
    return type(value) is {Path: str}.get(kind, kind) or (kind is float and type(value) is int)


def _within(value: float, low: float | None, high: float | None) -> bool:
    """Also finite."""
    return math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)


def _range(option: Any) -> str:
    words = [f"at {word} {bound}" for word, bound in (("least", option.min), ("most", option.max)) if bound is not None]
    return " and ".join(words) or "finite"


def on_command_line(context: typer.Context, name: str) -> bool:
    """Whether an option was given, and not left as it is or told by the environment."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
