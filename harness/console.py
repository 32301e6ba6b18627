"""What a run shows while it works: one live line, one line per finished job."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from harness.progress import Progress, Watch
from harness.record import Record
from harness.spec.job import Job

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
        self._begun: set[str] = set()  # those whose training was heard of
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
            if name not in self._begun and progress.epoch:
                self.say(f"resumed {name}: {progress.unit} {progress.epoch} of {progress.epochs} was its last")
            self._begun.add(name)
            done, total = progress.epoch * progress.total + progress.done, progress.epochs * progress.total
        text = describe(name, progress)
        if name in self._running:
            self._bars.update(self._running[name], description=escape(text), completed=done, total=total)
        if not self.console.is_terminal and time.monotonic() - self._printed > PERSISTENT_SECONDS:
            self._printed = time.monotonic()
            self.console.print(f"  {text}: {done} of {total}", highlight=False, soft_wrap=True)


def describe(name: str, progress: Progress) -> str:
    """`vsepp seed 0 · epoch 3/8 · loss 41.2 · dev Rsum 88.1`"""
    parts = [name, f"{progress.unit} {progress.epoch + 1}/{progress.epochs}" if progress.epochs else progress.stage]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.1f}")
    if progress.rsum is not None:
        parts.append(f"dev Rsum {progress.rsum:.1f}")
    return " · ".join(parts)


@contextmanager
def run_view(console: Console, total: int) -> Iterator[RunView]:
    with bars(console) as shown:
        yield RunView(console, shown, total)


UNKNOWN_SAID = 0.1  # share of a split's words from which a finished job's line tells it


def job_line(job: Job, record: Record, rsum: float | None, seconds: float) -> str:
    """One finished job."""
    if record.status == "failed":
        return f"[red]failed[/red]  {job.name}: {escape(record.error or '')}"
    best, unit = "", job.settings.unit
    if record.best_epoch is not None:
        best = f", best {unit} {record.best_epoch + 1} of {len(record.history)}"
        best += ", stopped early" if "stopped" in record.history[-1] else ""
    score = "" if rsum is None else f"{job.data.ranked} Rsum {rsum:.1f}"
    notes = cut_note(job, record) + unknown_note(record) + wordless_note(record)
    return f"[green]done[/green]    {job.name}: {score}{best}, {seconds:.0f} s{notes}"


def cut_note(job: Job, record: Record) -> str:
    """How many captions were longer than allowed; "" where none was."""
    sides = [side for side in record.data.values() if isinstance(side, Mapping)]
    cut, captions = (sum(side.get(name, 0) for side in sides) for name in ("captions_cut", "captions"))
    most = min((side.get("words_at_most", job.settings.max_words) for side in sides), default=0)
    return f"; {cut} of {captions} captions cut to {most} words" if cut else ""


def unknown_note(record: Record) -> str:
    """The largest share of unknown words of a split; "" where few are."""
    sides = [side for side in record.data.values() if isinstance(side, Mapping)]
    share = max((side.get("unknown_words", 0) for side in sides), default=0)
    return f"; {share:.0%} of words unknown" if share >= UNKNOWN_SAID else ""


def wordless_note(record: Record) -> str:
    """How many captions hold no word, such as `...`; "" where none does."""
    sides = [side for side in record.data.values() if isinstance(side, Mapping)]
    count = sum(side.get("captions_without_words", 0) for side in sides)
    return f"; {count} captions without a word" if count else ""
