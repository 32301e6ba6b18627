"""Fills the numbers of README.md, docs/, results/FINDINGS.md and results/reference/README.md in from records.

python -m harness.report.texts            writes them
python -m harness.report.texts --check    exits 1 where they are not what the records say

README.md and the pages have slots, `<!-- fill: EXPRESSION -->` to `<!-- end -->`; FINDINGS.md is made whole from
FINDINGS.md.j2 beside it.  Expressions are Jinja's; their functions are those of `Facts`, and those of `SAYINGS`.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from jinja2 import Environment, StrictUndefined, TemplateError

from harness import ROOT, doors
from harness.atomic import write_atomically
from harness.commands import HELP
from harness.record import RecordError
from harness.report.texts import answer, growth, published, speed
from harness.report.texts.facts import Facts
from harness.spec import plugins

SLOTTED = ("README.md", "docs/growth.md", "docs/speed.md", "results/reference/README.md")
FINDINGS = "results/FINDINGS.md"
SLOT = re.compile(r"(<!-- fill: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)

SAYINGS = (
    *(answer.best, answer.answer, answer.leaders, answer.added, answer.claimed, answer.took, published.expected),
    *(growth.queries, growth.matrices, growth.encoded, growth.features, growth.trained),
    *(speed.benched, speed.measured, speed.spent, speed.beside_published),
)

app = doors.Door()


@app.command(help=(__doc__ or "").partition("\n")[0], context_settings=HELP)
def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 where a text is stale.")] = False,
) -> None:
    plugins.choose(installed=False)  # the texts are of the built-in rows, whatever is installed here
    with doors.refusals():
        made = texts(ROOT, Facts())
        stale = [name for name, text in made.items() if _stored(ROOT / name) != text]
        for name in stale:
            if not check:
                write_atomically(ROOT / name, lambda file, text=made[name]: file.write(text.encode()))
            typer.echo(f"{'stale' if check else 'written'}: {name}")
    if check and stale:
        raise typer.Exit(1)


def texts(root: Path, facts: Facts) -> dict[str, str]:
    """Path from the root -> the text as the records have it.  Raises RecordError and OSError."""
    slotted, template = {name: _read(root / name) for name in SLOTTED}, _read(root / f"{FINDINGS}.j2")
    made = {name: filled(text, facts, name) for name, text in slotted.items()}
    return made | {FINDINGS: rendered(template, facts, f"{FINDINGS}.j2")}


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def filled(text: str, facts: Facts, where: str) -> str:
    """A text with every slot filled."""
    return SLOT.sub(lambda slot: slot[1] + rendered(f"{{{{ {slot[2]} }}}}", facts, where) + slot[3], text)


def rendered(template: str, facts: Facts, where: str) -> str:
    """Raises RecordError for what records do not say, and for a template that cannot be read."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
    try:
        return environment.from_string(template).render(
            facts=facts, **{say.__name__: partial(say, facts) for say in SAYINGS}
        )
    except (TemplateError, TypeError) as error:
        raise RecordError(f"{where}: {error}") from None


def _stored(path: Path) -> str | None:
    return _read(path) if path.is_file() else None


if __name__ == "__main__":
    app()
