"""What a run shows while it works: one live line, one line per finished job."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from harness.jobs import questions, registry, suites
from harness.jobs.ensembles import ENSEMBLES, Plan, chosen
from harness.jobs.registry import Method
from harness.jobs.spec import Job
from harness.progress import Progress, Watch
from harness.record import Record

NONE = "—"
PERSISTENT_SECONDS = 30.0  # where output is no terminal, a line at most this often


def bars(console: Console) -> Bars:
    """Bars with counts and the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Bars(*columns, console=console, transient=True)


class RunView:
    """Progress of a whole suite: jobs done, and inside those that run epochs, loss, Rsum and the time left."""

    def __init__(self, console: Console, shown: Bars, total: int) -> None:
        self.console, self._bars = console, shown
        self._all: TaskID = shown.add_task("jobs", total=total)
        self._running: dict[str, TaskID] = {}
        self._printed = time.monotonic()

    def start(self, name: str) -> Watch:
        """A new job (or the timing phase) begins; the watch to hand to it."""
        if name not in self._running:
            self._running[name] = self._bars.add_task("", total=None)
        self._bars.reset(self._running[name], description=escape(name))
        return lambda progress: self._show(name, progress)

    def finish(self, line: str, name: str) -> None:
        """A job is over."""
        if name in self._running:
            self._bars.remove_task(self._running.pop(name))
        self._bars.advance(self._all)
        self.console.print(line, highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """A line that stays."""
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _show(self, name: str, progress: Progress) -> None:
        done, total = progress.done, progress.total
        if progress.stage in ("train", "epoch"):
            done, total = progress.epoch * progress.total + progress.done, progress.epochs * progress.total
        text = describe(name, progress)
        if name in self._running:
            self._bars.update(self._running[name], description=escape(text), completed=done, total=total)
        if not self.console.is_terminal and time.monotonic() - self._printed > PERSISTENT_SECONDS:
            self._printed = time.monotonic()
            self.console.print(f"  {text}: {done} of {total}", highlight=False, soft_wrap=True)


def describe(name: str, progress: Progress) -> str:
    """`vsepp seed 0 · epoch 3/8 · loss 41.2 · dev Rsum 88.1`"""
    parts = [name, f"epoch {progress.epoch + 1}/{progress.epochs}" if progress.epochs else progress.stage]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.1f}")
    if progress.rsum is not None:
        parts.append(f"dev Rsum {progress.rsum:.1f}")
    return " · ".join(parts)


@contextmanager
def run_view(console: Console, total: int) -> Iterator[RunView]:
    with bars(console) as shown:
        yield RunView(console, shown, total)


def job_line(job: Job, record: Record, rsum: float | None, seconds: float) -> str:
    """One finished job."""
    if record.status == "failed":
        return f"[red]failed[/red]  {job.name}: {escape(record.error or '')}"
    best = "" if record.best_epoch is None else f", best epoch {record.best_epoch + 1} of {len(record.history)}"
    score = "" if rsum is None else f"{job.data.ranked} Rsum {rsum:.1f}"
    return f"[green]done[/green]    {job.name}: {score}{best}, {seconds:.0f} s"


def methods_tables() -> Iterator[Table]:
    """`--list`: every row there can be, by family, with its parameters, what it is and where it was published."""
    families = {
        "independent": "each side encoded on its own, ahead of a query",
        "interactive": "scores need the fragments of both sides",
    }
    for family, meaning in families.items():
        table = _listing(f"{family.capitalize()}: {meaning}", "parameters", "what it is")
        for method in registry.methods().values():
            if method.family == family:
                rows = _rows(method)
                counts = (registry.parameters().get(label) for label in rows)
                table.add_row("\n".join(rows), "\n".join(map(_count, counts)), _said(method))
        yield table
    module = registry.selfalign()
    table = _listing("SelfAlign on a host: the rows named HOST+selfalign above", "", "what it is")
    table.add_row(f"...+{registry.SELFALIGN}", "", _said(module))
    yield table
    table = _listing("Ensembles: scores of models trained apart, averaged (marked *)", "", "members")
    for ensemble in ENSEMBLES:
        seeds = f", {ensemble.seeds} seeds" if ensemble.seeds > 1 else ""
        table.add_row(ensemble.name, "", Text(f"{' + '.join(ensemble.members)}{seeds}. {ensemble.source}"))
    yield table


LIST_NOTE = "Parameters are the trained ones at the default settings on the embedded scenes."


def _listing(title: str, *headings: str) -> Table:
    table = Table(
        title=f"\n{title}", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("row", no_wrap=True)
    table.add_column(headings[0], justify="right", no_wrap=True)
    for heading in headings[1:]:
        table.add_column(heading, overflow="fold")
    return table


def _rows(method: Method) -> list[str]:
    """Its labels; a host's come with and without SelfAlign."""
    hosted = [f"{label}+{registry.SELFALIGN}" for label in method.labels if registry.hosting(method)]
    return [*method.labels, *hosted]


def _count(parameters: int | None) -> str:
    return NONE if parameters is None else f"{parameters:,}"


def _said(method: Method) -> Text:
    return Text.assemble(method.summary, *([("\n" + method.paper, "dim")] if method.paper else []))


def suites_table() -> Table:
    table = _listing("Suites", "rows", "question")
    for name, suite in suites.SUITES.items():
        labels = suite.labels()
        rows = len(labels) + (len(chosen(labels)) if suite.ensembles else 0)
        table.add_row(name, str(rows or NONE), suite.question)
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
