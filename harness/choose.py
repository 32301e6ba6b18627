"""Which row, or row reranked by another, is best for a gallery of this size within so much time and memory?

python -m harness.choose results/full-scenes --gallery 1M --budget-ms 20 --memory 4GiB
python -m harness.choose results/full-scenes --gallery 10000 --budget-ms 5 --by t2i-r1     the best first answer

From stored records and the laws fitted to them alone; ≈ marks times beyond what was measured.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness import doors
from harness.commands import HELP
from harness.report.formats import ABOUT, ABSENT, decimals, interval
from harness.report.read.described import described
from harness.report.read.groups import Group, collect
from harness.report.read.machines import is_asked, machines, on_machine
from harness.report.tables.candidates import Field, candidates
from harness.report.tables.choice import BY, Budget, Choice, Offer, choose
from harness.report.tables.choice_words import accuracy, caveat, cost, shown_bytes, verdict
from harness.spec.job import SpecError
from harness.spec.names import nearest

INSIDE, OUTSIDE = 5, 3  # rows of the table
LARGEST = 10**10  # images
IMAGES = {"": 1, "k": 10**3, "m": 10**6}
BYTES = {"": 1, "b": 1, "bytes": 1} | {
    f"{letter}{unit}": base ** (place + 1)
    for place, letter in enumerate("kmgt")
    for unit, base in (("b", 1000), ("ib", 1024))
}
app = doors.Door()
out = Console(highlight=False, markup=False)


@app.command(help=(__doc__ or "").partition("\n")[0], context_settings=HELP)
def main(
    folder: Annotated[Path, typer.Argument(help="A results folder, such as results/full-scenes.")],
    gallery: Annotated[str, typer.Option(metavar="IMAGES", help="Images that are searched: 5000, 100K, 1M.")],
    budget_ms: Annotated[
        float, typer.Option(help="Milliseconds that one caption may take, read, encoded, searched and ranked.")
    ],
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="What the index may take: 4GiB, 500MB; any size by default.")
    ] = "",
    device: Annotated[
        str, typer.Option(help="Whose times, where there are several machines: cpu, cuda, or words of its name.")
    ] = "",
    by: Annotated[str, typer.Option(help="What to be best in: rsum, t2i-r1 or i2t-r1.")] = "rsum",
    no_plugins: doors.NoPlugins = False,
) -> None:
    with doors.refusals():
        doors.check_names(folder=str(folder), gallery=gallery, memory=memory, device=device, by=by)
        if by not in BY:
            raise SpecError(f"--by must be {', '.join(BY)}, got {doors.quoted(by)}{nearest(by, BY)}")
        budget = Budget(_images(gallery), _milliseconds(budget_ms), _bytes(memory))
        doors.choose_plugins(none_installed=no_plugins)
        groups, machine = _timed_alike(collect(folder), device, folder)
        fields = [candidates(group) for group in groups]
        found = [choose(field.candidates, budget, by) for field in fields]
        if not any(choice.best for choice in found):
            raise SpecError(_nothing(found, fields, budget, folder))
    for place, (group, field, choice) in enumerate(zip(groups, fields, found, strict=True)):
        if place:
            out.print()
        if group.differs:
            out.print(Text(f"Of the records with {described(group.differs)}".replace("`", ""), style="bold"))
        _say(choice, field, budget, by, machine)


# What is asked -------------------------------------------------------------------------------------------------------


def _images(text: str) -> int:
    """`5000`, `100K`, `1M`.  Raises SpecError."""
    match = re.fullmatch(r"([0-9]{1,13})([km]?)", text.strip().lower())
    number = int(match[1]) * IMAGES[match[2]] if match else 0
    if not 1 <= number <= LARGEST:
        raise SpecError(
            f"--gallery takes images from 1 to {LARGEST:,}, such as 5000, 100K or 1M, got {doors.quoted(text)}"
        )
    return number


def _milliseconds(budget: float) -> float:
    """Raises SpecError."""
    doors.check_finite(budget_ms=budget)
    if budget <= 0:
        raise SpecError(f"--budget-ms must be above 0, got {budget:g}")
    return budget


def _bytes(text: str) -> float:
    """`4GiB`, `500MB`, `1000000`; endless where not given.  Raises SpecError."""
    if not text:
        return math.inf
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([a-z]*)", text.strip().lower())
    if not match or match[2] not in BYTES or not float(match[1]):
        units = "bytes, KB, MB, GB, TB, KiB, MiB, GiB or TiB"
        raise SpecError(f"--memory takes a size above 0 in {units}, such as 4GiB, got {doors.quoted(text)}")
    return float(match[1]) * BYTES[match[2]]


def _timed_alike(groups: Sequence[Group], asked: str, folder: Path) -> tuple[list[Group], str]:
    """Groups with the times of one machine, and that machine in words.  Raises SpecError."""
    known = machines(groups)
    if not known:
        raise SpecError(f"{folder}: no row was timed (runs with --timing-rounds 0 are not)")
    found = [words for words, machine in known.items() if is_asked(words, machine, asked)]
    if not found:
        raise SpecError(f"--device {doors.quoted(asked)}: nothing was timed there, but on {'; '.join(known)}")
    if len(found) > 1:
        raise SpecError(f"{folder}: rows were timed on several machines, name one by --device: {'; '.join(found)}")
    return [on_machine(group, known[found[0]]) for group in groups], found[0]


def _nothing(found: Sequence[Choice], fields: Sequence[Field], budget: Budget, folder: Path) -> str:
    """Why there is no choice: the fastest, and the smallest where that is another."""
    every = [offer for choice in found for offer in (choice.fastest, choice.smallest) if offer is not None]
    if not every:
        why = " ".join(line for field in fields for line in field.left_out) or "No query was timed from its caption on."
        return f"{folder}: no row tells how long a query among {budget.gallery:,} images takes. {why}"
    fastest, smallest = min(every, key=lambda o: o.ms), min(every, key=lambda o: o.memory)
    told = [f"the fastest is {fastest.candidate.title} ({cost(fastest)})"]
    if smallest.candidate.name != fastest.candidate.name and fastest.memory > budget.memory:
        told.append(f"the smallest {smallest.candidate.title} ({cost(smallest)})")
    return f"nothing fits {_shown(budget)}: {', '.join(told)}"


def _shown(budget: Budget) -> str:
    size = "" if math.isinf(budget.memory) else f" and {shown_bytes(budget.memory)}"
    return f"{budget.ms:g} ms{size} among {budget.gallery:,} images"


# What is said --------------------------------------------------------------------------------------------------------


def _say(choice: Choice, field: Field, budget: Budget, by: str, machine: str) -> None:
    """The answer in a sentence, how sure it is, a table of what is near, and what is not known."""
    best, second = choice.best, choice.second
    if best is None:
        out.print(f"Nothing fits {_shown(budget)}.")
        return
    out.print(
        f"Take {best.candidate.title}: {accuracy(best.candidate, by)}; {cost(best)} among {budget.gallery:,} images."
    )
    if second is not None:
        sure = verdict(field.rows, best.candidate, second.candidate, by)
        out.print(f"Runner-up: {second.candidate.title}, {accuracy(second.candidate, by)}; {cost(second)}; {sure}.")
    inside, outside = choice.inside[:INSIDE], choice.outside[:OUTSIDE]
    nearby = sorted(outside, key=lambda offer: -offer.candidate.means[by])
    out.print(_table(inside, nearby, by))
    for line in _notes((*inside, *nearby), best, budget, field, machine):
        out.print(f"- {line}")


def _table(inside: Sequence[Offer], outside: Sequence[Offer], by: str) -> Table:
    """Those inside the budget, best first, then those that are more accurate and outside it."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("method", overflow="fold")
    for title in (*(BY[name].replace(" ", "\n") for name in BY), f"95% of\n{BY[by]}", "ms", "memory"):
        table.add_column(title, justify="right", no_wrap=True)
    for offer in inside:
        table.add_row(*_cells(offer, by))
    if outside:
        table.add_section()
        table.add_row("outside the budget:")
    for offer in outside:
        table.add_row(*_cells(offer, by))
    return table


def _cells(offer: Offer, by: str) -> list[Text]:
    candidate = offer.candidate
    cells = [
        candidate.title + (" (untuned)" if candidate.untuned else ""),
        *(decimals(1)(candidate.means[name]) for name in BY),
        interval(candidate.intervals.get(by)),
        offer.shown_ms,
        shown_bytes(offer.memory),
    ]
    return [Text(cell) for cell in cells]


def _notes(offers: Sequence[Offer], best: Offer, budget: Budget, field: Field, machine: str) -> list[str]:
    lines = [caveat(best.candidate, budget.gallery)]
    far = [offer.candidate.curve for offer in offers if not offer.is_measured]
    if far:
        ends = [curve.most for curve in far]
        off = max((curve.residual for curve in far if curve.residual is not None), default=None)
        fit = "" if off is None else f", which is off by up to {off:.0%} where it was fitted"
        reach = " to ".join(f"{most:,}" for most in sorted({min(ends), max(ends)}))
        lines.append(f"{ABOUT}: beyond the largest gallery measured ({reach} images), along the row's law{fit}.")
    lone = [offer for offer in offers if offer.candidate.seeds < 2]
    lines.append(f"{ABSENT}: one seed, no interval." if lone else "")
    lines.append(f"Times are medians of single queries on {machine}; memory is that of the index.")
    return [line for line in (*lines, *field.left_out) if line]


if __name__ == "__main__":
    sys.exit(app())
