"""What the records under `results/` say, one function a kind of statement: numbers as texts have them.

A text names a folder of `results/reference` and rows in it.  What records do not hold raises RecordError: a text
cannot say what was not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from harness import ROOT
from harness.measure.estimates import Estimate
from harness.measure.intervals import Interval
from harness.measure.verdicts import detectable
from harness.record import RecordError
from harness.report.formats import ABSENT, decimals, interval, signed, significant, whole
from harness.report.read.contrasts import Contrast, compared
from harness.report.read.groups import Group, collect
from harness.report.read.machines import machine_words
from harness.report.read.rows import Row
from harness.report.read.times import GALLERY, QueryTime, query_times, shown_ms
from harness.report.tables import ablations, additions, gap, reranking
from harness.report.tables.claims import UNTUNED, UNTUNED_HOST, against_hosts, host_verdict
from harness.report.tables.headline import mean_rsum, ranked
from harness.report.tables.published_order import order_note
from harness.report.tables.sharing import sharing_sheet
from harness.report.tables.tuning import adds

PLACES = {"better": "above", "equivalent": "level", "worse": "behind", "undecided": "undecided"}  # by `verdicts.Word`
T = TypeVar("T")
WORDS = {
    "better": "better",
    "worse": "worse",
    "equivalent": "no difference that matters",
    "undecided": "undecided",
    UNTUNED_HOST: "no claim: untuned",
}


@dataclass(frozen=True)
class Gain:
    """What SelfAlign adds to one host, among all hosts of a folder that were asked together."""

    host: Row
    row: Row
    estimate: Estimate  # of Rsum, over the seeds both ran and over images
    interval: Interval | None  # 95%, corrected by Holm for the hosts of the folder
    word: str  # a key of `WORDS`

    @property
    def unseen(self) -> float | None:
        """The least true difference that would have been told from zero in four of five such experiments."""
        return detectable(self.estimate)

    def __str__(self) -> str:
        return " ".join([signed(self.estimate.value), *([interval(self.interval)] if self.interval else [])])


class Facts:
    """Of one folder of results: `reference/FOLDER` holds records."""

    def __init__(self, results: Path = ROOT / "results") -> None:
        self.results = results
        self.group: Callable[[str], Group] = cache(self._group)
        # folder, images -> row -> one query end to end
        self.times: Callable[[str, int], Mapping[str, QueryTime]] = cache(
            lambda folder, items: query_times(self.group(folder).rows, items)
        )
        self.gains: Callable[[str], tuple[Gain, ...]] = cache(self._gains)

    def _group(self, folder: str) -> Group:
        groups = collect(self.results / "reference" / folder)
        if len(groups) != 1:
            raise RecordError(f"{folder} holds records of {len(groups)} settings; a text names one")
        return groups[0]

    def rows(self, folder: str, family: str = "", host: str = "") -> list[Row]:
        """Rows with runs, single models trained here alone, chance aside; of one family, or those of one host."""
        return [
            row
            for row in self.group(folder).rows
            if row.runs and not (row.is_scale or row.is_ensemble or row.is_elsewhere)
            if family in ("", row.family) and host in ("", row.model.host)
        ]

    def ranked(self, folder: str, family: str = "") -> list[Row]:
        """Those of `rows` that may stand in one ranking."""
        return [row for row in ranked(self.group(folder).rows) if family in ("", row.family)]

    def row(self, folder: str, name: str) -> Row:
        return _only(folder, name, [row for row in self.group(folder).rows if row.name == name and row.runs])

    def best_with_selfalign(self, folder: str) -> str:
        """The row with SelfAlign of the highest Rsum."""
        return max((row for row in self.rows(folder) if row.model.selfalign is not None), key=mean_rsum).name

    def setting(self, folder: str, name: str) -> Any:
        """`epochs`, or `train_images` of the data."""
        group = self.group(folder)
        return _only(folder, name, [part[name] for part in (group.settings, group.data) if name in part])

    def count(self, folder: str, split: str, what: str = "images") -> str:
        """How many images or captions a split has, `2,000`."""
        return f"{self.rows(folder)[0].runs[0].record.data[split][what]:,}"

    def same_jobs(self, folder: str, other: str) -> list[tuple[str, int, str, str]]:
        """Name, seed and Rsum in either folder of the runs that both hold, which differ by where they were computed."""
        here = {run.record.key: (row, run) for row in self.rows(folder) for run in row.runs}
        there = [run for row in self.rows(other) for run in row.runs if run.record.key in here]
        if not there:
            raise RecordError(f"{folder} and {other} have no run in common")
        digits = decimals(1)
        return [
            (row.name, run.seed, digits(run.accuracy["rsum"]), digits(again.accuracy["rsum"]))
            for again in there
            for row, run in [here[again.record.key]]
        ]

    def kernels(self, folder: str) -> str:
        """Instruction sets of the kernels that the runs of a folder were computed with, `AVX512`."""
        records = [run.record for row in self.rows(folder) for run in row.runs]
        return listed(sorted({str(record.provenance["kernels"]["instruction_set"]) for record in records}))

    def rsum(self, folder: str, name: str, digits: int = 0) -> str:
        """Mean over seeds."""
        return decimals(digits)(mean_rsum(self.row(folder, name)))

    def rsum_of(self, folder: str, name: str, seed: int) -> str:
        """Of one run."""
        runs = [run for run in self.row(folder, name).runs if run.seed == seed]
        return decimals(1)(_only(folder, f"{name} of seed {seed}", runs).accuracy["rsum"])

    def order(self, folder: str) -> str:
        """How the order of the rows agrees with the published one, and which rows are far from their place in it."""
        note = order_note(self.group(folder))
        return _only(folder, "rows with a published place", [] if note is None else [note])

    def rising(self, folder: str) -> tuple[int, int]:
        """How many training runs end at their best dev epoch, and of how many."""
        runs = [run.record for row in self.rows(folder) for run in row.runs]
        trained = [record for record in runs if record.history]
        return sum(record.best_epoch == len(record.history) - 1 for record in trained), len(trained)

    def doubled(self, folder: str) -> dict[str, float]:
        """Row -> dev Rsum that one run of twice the length adds, of rows that had trials."""
        told = {row.name: row.tuning.row for row in self.rows(folder)}
        return {name: more for name, trials in told.items() if trials and (more := adds(trials)) is not None}

    def sharing(self, folder: str) -> str:
        """What one rate and warm-up for all rows would cost them, as a sentence."""
        sheet = sharing_sheet(_only(folder, "tuned settings", self.group(folder).tuning))
        if sheet is None:
            raise RecordError(f"{folder}: nothing is shared by fewer than two rows with trials")
        return sheet.notes[0]

    def minutes(self, folder: str) -> tuple[float, int, str]:
        """What the runs of a folder took by their own clocks, those of ablations included, how many there are, and the
        threads they had, `1 or 2`."""
        records = [run.record for run in self.group(folder).runs if not run.record.members]
        threads = sorted({record.provenance["machine"]["threads"] for record in records})
        took = sum(sum(record.seconds.values()) for record in records)
        return took / 60, len(records), " or ".join(map(str, threads))

    def _gains(self, folder: str) -> tuple[Gain, ...]:
        single = {id(row) for row in self.rows(folder)}
        found = [contrast for contrast in against_hosts(self.group(folder)) if id(contrast.row) in single]
        return tuple(Gain(each.other, each.row, _known(each), each.interval, host_verdict(each)) for each in found)

    def gain(self, folder: str, host: str) -> str:
        """What SelfAlign adds to a host, and how sure that is: `+3.7 [-1.7, 9.1] (undecided)`."""
        gain = _only(folder, f"gains of {host}", [gain for gain in self.gains(folder) if gain.host.name == host])
        return f"{gain} ({WORDS[gain.word]})"

    def bases(self, folder: str, question: str) -> list[str]:
        """Rows that an ablation was asked of."""
        return [ablation.base.name for ablation in ablations.by_question([self.group(folder)]).get(question, [])]

    def arms(self, folder: str, question: str, base: str) -> list[str]:
        """Names of an ablation's arms of a base, in the order of its question."""
        found = ablations.by_question([self.group(folder)]).get(question, [])
        return _only(
            folder, f"{question}: {base}", [list(ablation.arms) for ablation in found if ablation.base.name == base]
        )

    def arm(self, folder: str, question: str, base: str, arm: str) -> str:
        """Difference of an ablation's arm to its base, `+0.3 [-4.9, 5.6]`."""
        found = ablations.by_question([self.group(folder)]).get(question, [])
        arms = [ablation.arms[arm] for ablation in found if ablation.base.name == base and arm in ablation.arms]
        return _only(folder, f"{question}: {base}, {arm}", arms).shown

    def settings_of_arms(self, folder: str, question: str) -> str:
        """Whose trials chose the settings of an ablation's arms, as a sentence."""
        found = ablations.by_question([self.group(folder)]).get(question, [])
        _only(folder, f"{question}, settings of arms", [found] if found else [])
        arms = [
            (ablation.base.name, name, arm.row.tuning.how) for ablation in found for name, arm in ablation.arms.items()
        ]
        alike = {name: len({how for _, other, how in arms if other == name}) == 1 for _, name, _ in arms}
        by_whom: dict[str, dict[str, None]] = {}
        for base, name, how in arms:
            by_whom.setdefault(how, {})[f"`{name if alike[name] else f'{base}: {name}'}`"] = None
        if list(by_whom) == ["own"]:
            return "Every arm has the settings that its own trials chose."
        own, others = by_whom.pop("own", {}), [name for names in by_whom.values() for name in names]
        if list(by_whom) != ["base"]:
            return f"Of {listed(others)} not all were tuned: the table says which."
        but = f", but for {listed(list(own))}" * bool(own)
        return f"Arms have the settings that their base's trials chose, which need not be an arm's own best{but}."

    def taken_over(self, folder: str) -> list[str]:
        """Which share of the gap to a teacher each row with a module beside SelfAlign closes; none without such."""
        return gap.taken_over(self.group(folder))

    def lessons(self, folder: str) -> list[str]:
        """What each module brings beside the row without it, and a lesson beside its controls; none without such."""
        return additions.lessons(self.group(folder))

    def told_apart(self, folder: str, name: str) -> dict[str, str]:
        """Interactive rows that a row is `above`, `level` with (equivalent), `behind` or `undecided` beside, tested
        together, and those that are `untuned`, where some row is tuned."""
        row, rows = self.row(folder, name), self.rows(folder, "interactive")
        found: dict[str, list[str]] = {where: [] for where in (*PLACES.values(), UNTUNED)}
        for each in compared([(row, other) for other in rows if other.is_settled == row.is_settled]):
            _known(each)
            found[PLACES[each.word]].append(each.other.name)
        found[UNTUNED] = [other.name for other in rows if other.is_settled != row.is_settled]
        return {where: listed(names) for where, names in found.items()}

    def query_ms(self, folder: str, name: str, items: int = GALLERY) -> str:
        """One caption, encoded and searched among so many images; ≈ where that was extrapolated."""
        return shown_ms(self.query(folder, self.row(folder, name), items))

    def query(self, folder: str, row: Row, items: int = GALLERY) -> QueryTime:
        found = self.times(folder, items).get(row.name)
        if found is None:
            raise RecordError(f"{folder}: no single query of {row.name} among {items} images was timed")
        return found

    def query_span(self, folder: str, rows: Sequence[Row], items: int = GALLERY) -> str:
        """Shortest and longest query of some rows, `0.15 to 0.21`; rows that were not timed are passed over, `—` where
        there are none at all.
        """
        if not rows:
            return ABSENT
        known = self.times(folder, items)
        times = sorted((known[row.name] for row in rows if row.name in known), key=lambda time: time.ms)
        if not times:
            raise RecordError(f"{folder}: none of these rows was timed")
        return f"{shown_ms(times[0])} to {shown_ms(times[-1])}"

    def peaks(self, folder: str) -> str:
        """Least and most memory of the rows of a folder that were timed, in a sentence."""
        costs = [row.cost for row in self.rows(folder) if row.cost and row.cost.peak_memory_mib is not None]
        if not costs:
            raise RecordError(f"{folder}: no timed row tells its memory")
        peaks = [cost.peak_memory_mib or 0.0 for cost in costs]
        machine, sizes = machine_words(costs[0].machine), costs[0].sizes
        return (
            f"Timing the rows on {machine} took {whole(min(peaks))} to {whole(max(peaks))} MiB a row, "
            f"{sizes['images']} images encoded at once and {sizes['gallery']:,} searched.\n"
        )

    def unmeasured(self, folder: str, other: str) -> str:
        """Rows of another folder of which this one has no time, `a and b`."""
        timed = self.times(folder, GALLERY)
        return listed([row.name for row in self.rows(other) if row.name not in timed])

    def rerank(self, folder: str, retriever: str, reranker: str, k: int) -> tuple[str, str]:
        """Rsum of a shortlist of k put in order by another model, and its ms for one encoded caption."""
        pairs = self.group(folder).reranks
        points = [p for p in reranking.points(pairs) if (p.retriever, p.reranker, p.k) == (retriever, reranker, k)]
        point = _only(folder, f"{reranker} behind {retriever}, k {k}", points)
        if point.t2i_ms is None:
            raise RecordError(f"{folder}: {reranker} behind {retriever} was not timed")
        return decimals(0)(point.accuracy["rsum"]), significant(point.t2i_ms, 2)


def listed(names: Sequence[str]) -> str:
    """`a, b and c`; `none`."""
    *first, last = names or ["none"]
    return f"{', '.join(first)} and {last}" if first else last


def _known(contrast: Contrast) -> Estimate:
    """Raises RecordError where nothing can be compared."""
    if contrast.estimate is None:
        raise RecordError(f"{contrast.row.name} and {contrast.other.name} have no difference that records tell")
    return contrast.estimate


def _only(folder: str, what: str, found: Sequence[T]) -> T:
    if len(found) != 1:
        raise RecordError(f"{folder} has {len(found)} of {what}, a text needs one")
    return found[0]
