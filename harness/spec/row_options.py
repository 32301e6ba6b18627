"""Options of a `--row`, `OPTION=VALUE` after commas, whatever the row is made of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from harness.spec.job import SpecError
from harness.spec.names import nearest


def row_options(
    name: str, parts: Iterable[str], known: Collection[str], choices: Mapping[str, Collection[str]]
) -> dict[str, str]:
    """Option -> value, as written.  choices: option -> the values it may have.

    Raises SpecError for what is no option, is given twice or has a value that it cannot have.
    """
    options: dict[str, str] = {}
    for part in parts:
        option, equals, value = part.partition("=")
        if not equals or option not in known:
            raise SpecError(f"--row {name} has no option {option!a:.40}{nearest(option, known)}")
        if option in options:
            raise SpecError(f"--row {name}: {option} is given twice")
        if option in choices and value not in choices[option]:
            raise SpecError(f"--row {name}: {option} must be one of {', '.join(choices[option])}, got {value!a:.40}")
        options[option] = value
    return options
