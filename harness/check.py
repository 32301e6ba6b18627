"""Check what a method owes the harness: each failure is explained in a sentence.

python -m harness.check vsrn                          every row of a built-in method or an installed package's
python -m harness.check scan:t2i-lse                  one row
python -m harness.check bags --plugin bags.py         a file of your own
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from harness import doors
from harness.commands import HELP
from harness.spec import registry, suites

app = doors.Door()
out = Console(highlight=False, soft_wrap=True, markup=False)


@app.command(help=(__doc__ or "").partition("\n")[0], context_settings=HELP)
def main(
    name: Annotated[str, typer.Argument(help="A method, or one of its rows; --list of harness.run shows them.")],
    plugin: doors.Plugins = None,
    no_plugins: doors.NoPlugins = False,
) -> None:
    with doors.refusals():
        doors.check_names(name=name, plugin="".join(plugin or ()))
        doors.choose_plugins(plugin or (), none_installed=no_plugins)
        failed = sum(_checked(label) for label in _rows(name))
    if failed:
        raise typer.Exit(1)


def _rows(name: str) -> tuple[str, ...]:
    """Of a method all there are, with SelfAlign too where it hosts it.  Raises SpecError for a name that is unknown."""
    if name in registry.methods():
        rows = (*registry.labels(), *registry.aside(name))
        return tuple(label for label in dict.fromkeys(rows) if registry.parse(label)[0].name == name)
    return suites.select([name], with_aside=True)


def _checked(label: str) -> int:
    """Says what a row passes, skips and fails; returns how many it fails."""
    from harness import contract  # torch takes seconds to import; an unknown name is told at once
    from harness.parameters import counted

    states = []
    for check, state, why in contract.outcomes(label):
        states.append(state)
        if state != "ok":
            out.print(f"{state:<8} {label}: {check}: {doors.printable(why)}")
    passed, skipped, failed = (states.count(state) for state in ("ok", "skipped", "FAILED"))
    trains = f"; it trains {counted(label):,} parameters" if passed else ""
    out.print(f"{label}: {passed} checks pass, {skipped} do not apply, {failed} fail{trains}")
    return failed


if __name__ == "__main__":
    sys.exit(app())
