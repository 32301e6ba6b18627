"""What a run does after all training is over, one phase after the other, alone on the machine.

Average, time, rerank, trace: a file each, `phase(jobs, store, watch, ...)` -> lines for people.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import doors
from harness.data import sources
from harness.phases import recorded
from harness.progress import Start
from harness.spec import ensembles, given
from harness.spec.job import Job, SpecError
from harness.store import Store

if TYPE_CHECKING:
    from harness.data.judgements import Judgements
    from harness.phases.opened import Row


@dataclass(frozen=True)
class Phases:
    """Which of them were asked for."""

    timing_rounds: int  # samples per stage, 0 = no timing
    timing_budget_s: float  # of a row, beyond the stages
    average: bool = False  # ensembles of what was trained
    force: bool = False  # average again what is recorded
    rerank: bool = False
    traces: Path | None = None  # folder of the traces
    truths: Sequence[str] = ()  # extended ground truths
    judgements: Judgements | None = None  # what people said of pairs

    def recorded(self, jobs: Sequence[Job], store: Store) -> list[str] | None:
        """The lines of the phases where records of jobs that all ended well hold all that they would find; else None.

        Tells without torch; of phases that are to be asked for, and of data that show identities, it does not know.
        """
        asked = self.force or self.rerank or self.truths or self.judgements is not None or self.traces is not None
        if asked or any(sources.shows_identities(job.data) for job in jobs):
            return None
        averages = recorded.averaged_lines(ensembles.plan(jobs), store) if self.average else []
        alike = recorded.timed_alike(jobs, store) if self.timing_rounds else []
        current = all(recorded.timed(part, store, self.timing_rounds, self.timing_budget_s) for part in alike)
        if averages is None or not current or (self.timing_rounds and not alike):
            return None
        return [*averages, *map(recorded.timed_line, alike)]

    def lines(self, jobs: Sequence[Job], store: Store, watch: Start) -> Iterator[str]:
        """Runs the phases; one line for people each.  Tracing comes last: nothing is timed beside a profiler."""
        from harness.phases import average, rerank, time, trace  # these import torch
        from harness.phases.opened import rows

        if self.average:
            yield from average.phase(jobs, store, watch, force=self.force)
        plans = ensembles.plan(jobs).plans if self.average else ()
        yield from lines_of_others(rows(jobs, plans, store), store, watch, self.truths, self.judgements)
        if self.timing_rounds:
            yield from time.phase(jobs, store, watch, rounds=self.timing_rounds, budget_s=self.timing_budget_s)
        if self.rerank:
            yield from rerank.phase(jobs, store, watch, rounds=self.timing_rounds)
        if self.traces is not None:
            yield from trace.phase(jobs, store, watch, folder=self.traces)


def lines_of_others(
    rows: Sequence[Row], store: Store, watch: Start, truths: Sequence[str], judgements: Judgements | None
) -> Iterator[str]:
    """What recorded rows come to by what others say is right, a line each.  Raises DataError."""
    from harness.phases import judged
    from harness.phases import truths as extended

    yield from extended.phase(rows, store, watch, asked=truths)  # identities need not be asked for
    if judgements is not None:
        yield from judged.phase(rows, store, watch, judgements=judgements)


def traces_folder(given: str, results: Path) -> Path:
    """Where traces go: as given, or `traces` within the results.  Raises SpecError where nothing can be written."""
    folder = Path(given) if given else results / "traces"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise SpecError(f"--trace cannot write to {folder}: {error.strerror}") from None


def check_rerank(jobs: Sequence[Job]) -> None:
    """Raises SpecError where no pair can come of these jobs."""
    there = {
        "independent": any(given.family(job.model) == "independent" for job in jobs),
        "interactive": any(given.reranks(job.model) for job in jobs),
    }
    for family, some in there.items():
        if not some:
            raise SpecError(
                f"--rerank takes at least one independent and one interactive row, there is no {family} one"
            )


class OptionalTrace(doors.Command):
    """A command whose `--trace` may go without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        told: list[str] = []
        for word, after in zip(args, [*args, "-"][1:], strict=True):
            told += [word, ""] if word == "--trace" and after.startswith("-") else [word]
        return super().parse_args(ctx, told)
