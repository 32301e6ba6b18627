"""What there is to run, as tables: methods, suites, ablations, and the jobs of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from harness.progress import counted
from harness.spec import paper, questions, registry, suites
from harness.spec.ensembles import ENSEMBLES, Plan, chosen
from harness.spec.job import Data, Job
from harness.spec.methods import Method

NONE = "—"


def methods_tables(parameters: Mapping[str, int] | None = None) -> Iterator[Table]:
    """`--list`: every row there can be, by family, with its parameters, what it is and where it was published.

    parameters: of each row that could be counted; None = nobody asked, and there is no column.
    """
    column = [] if parameters is None else ["parameters"]
    families = {
        "independent": "each side encoded on its own, ahead of a query",
        "interactive": "scores need the fragments of both sides",
        "scale": "no models: told what captions fit, on embedded data alone",
    }
    for family, meaning in families.items():
        table = _listing(f"{family.capitalize()}: {meaning}", *column, "what it is")
        for method in registry.methods().values():
            if method.family == family:
                rows = _rows(method)
                counts = [] if parameters is None else ["\n".join(_count(parameters.get(label)) for label in rows)]
                table.add_row("\n".join(rows), *counts, _said(method))
        yield table
    module, *others = registry.modules().values()
    table = _listing("SelfAlign on a host: the rows named HOST+selfalign above", "what it is")
    table.add_row(f"...+{module.name}", _said(module))
    yield table
    table = _listing("Other modules on a host: rows where they are named, --only HOST+MODULE", "what it is")
    for other in others:
        table.add_row(f"...+{other.name}", _said(other))
    yield table
    table = _listing("Ensembles: scores of models trained apart, averaged (marked *)", "members")
    for ensemble in ENSEMBLES:
        seeds = f", {ensemble.seeds} seeds" if ensemble.seeds > 1 else ""
        table.add_row(ensemble.name, Text(f"{' + '.join(ensemble.members)}{seeds}. {ensemble.source}"))
    yield table


PARAMETERS_NOTE = "Parameters are the trained ones at the default settings on the embedded scenes."


def _listing(title: str, *headings: str) -> Table:
    table = Table(
        title=f"\n{title}", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("row", no_wrap=True)
    for heading in headings[:-1]:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(headings[-1], overflow="fold")
    return table


def _rows(method: Method) -> list[str]:
    """Its labels; a host's come with and without SelfAlign."""
    hosted = [f"{label}+{registry.SELFALIGN}" for label in method.labels if method.hosts]
    return [*method.labels, *hosted]


def _count(parameters: int | None) -> str:
    return NONE if parameters is None else f"{parameters:,}"


def _said(method: Method) -> Text:
    return Text.assemble(method.summary, *([("\n" + method.paper, "dim")] if method.paper else []))


def suites_table() -> Table:
    table = _listing("Suites", "rows", "jobs", "question")
    for name, suite in suites.SUITES.items():
        labels = suite.labels()
        rows = len(labels) + (len(chosen(labels)) if suite.ensembles else 0)
        of = next(iter(paper.DATA)) if suite.published else ""
        jobs = suites.jobs(name, Data(), paper_of=of)
        table.add_row(name, str(rows or NONE), str(len(jobs)), suite.question)
    return table


def questions_table() -> Table:
    """`--list`: every ablation, what it compares with and how many arms it has."""
    table = _listing("Ablations", "bases", "arms", "question")
    for question in questions.questions().values():
        name = f"{questions.FOLDER}/{question.name}"
        table.add_row(name, "\n".join(question.bases), str(len(question.arms)), question.question)
    return table


def plan_table(jobs: Sequence[Job | Plan], cached: Sequence[bool]) -> Table:
    """`--dry-run`: what would be done."""
    table = Table("job", "key", "state", title="Jobs", title_justify="left")
    for job, known in zip(jobs, cached, strict=True):
        table.add_row(job.name, job.key, "cached" if known else "to run")
    return table


def plan_line(cached: Sequence[bool]) -> str:
    """`--dry-run`: the last line."""
    return f"{counted(len(cached), 'job')}: {sum(cached)} recorded already, {len(cached) - sum(cached)} to run"
