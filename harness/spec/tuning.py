"""How settings are chosen: the same trials for every row, on dev, as values.  Nothing here executes.

A row is tried with learning rates of a doubling grid, crossed with two lengths of the hinge's warm-up (all negatives
before the hardest one).  Where the best rate is the lowest or highest tried, one step outward follows, with the warm-up
of the best: the least that can tell.  Then one run of twice the length at the winner says what training longer would
add.  A SelfAlign row is a row of its own: as many trials as its host, never its host's winner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from harness import tuned
from harness.record import TunedFrom
from harness.spec import embedded, registry
from harness.spec.job import Data, Job, Settings, SpecError
from harness.tuned import TunedData, TunedDesign, TunedRecord, TunedRow

OWN, BASE, HAND = "own", "base", "by hand"  # whose trials the settings are of, and what was put in their place
LEAST_TRIALS = 2  # of two rates: a best of one is none
RATES: Mapping[str, tuple[float, ...]] = {"scenes": (1.6e-3, 3.2e-3, 6.4e-3, 1.28e-2)}  # by a look at two rows
USUAL_RATES = (8e-4, 1.6e-3, 3.2e-3, 6.4e-3)  # of data nobody has looked at: the middle of the grid
USUAL_UPDATES = 2000  # T of a folder; embedded data have their own (embedded.py)
# places of (rate, share) in the order they are tried: a smaller budget is the same first trials for every row
ORDER = ((1, 0), (2, 1), (2, 0), (1, 1), (3, 0), (0, 1), (3, 1), (0, 0))

# what a winner settles, and what stands in for it or is a trial's alone: all others are conditions of the winner
SETTLED = ("lr", "warmup_updates", "updates", "parts", "schedule", "clip")
BY_HAND = (*SETTLED, "epochs", "warmup_epochs", "lr_drop", "drop_every", "stop_below")
OF_ONE_RUN = ("seed", "train_share", "score_precision")  # no conditions either


@dataclass(frozen=True, order=True)
class Trial:
    """What is tried."""

    lr: float
    warmup_updates: int


@dataclass(frozen=True)
class Design:
    """The same for every row of a data set.  Raises SpecError where it cannot be."""

    rates: tuple[float, ...]  # each twice the one before
    updates: int  # T
    trials: int = len(ORDER)
    shares: tuple[float, ...] = (0.25, 0.80)  # of the updates, the hinge's warm-up
    parts: int = Settings.parts  # looks at dev
    seed: int = 0  # finals use others
    schedule: str = "cosine"
    clip: float = 2.0
    stop_below: float = 0.5  # a trial that falls below this share of its own best ends there

    def __post_init__(self) -> None:
        if self.updates < self.parts:
            raise SpecError(f"tuning takes at least {self.parts} updates, a look at dev each, got {self.updates}")
        if not LEAST_TRIALS <= self.trials <= len(ORDER):
            raise SpecError(f"--trials must be from {LEAST_TRIALS} to {len(ORDER)}, got {self.trials}")

    @property
    def first(self) -> tuple[Trial, ...]:
        """The trials of every row."""
        return tuple(self._trial(*places) for places in ORDER[: self.trials])

    def _trial(self, rate: int, share: int) -> Trial:
        return Trial(self.rates[rate], round(self.shares[share] * self.updates))

    def outward(self, scores: Mapping[Trial, float | None]) -> Trial | None:
        """The step beyond the rates of the first trials, given their dev Rsum; None where the best lies within."""
        best = winner({trial: scores.get(trial) for trial in self.first})
        if best is None:
            return None
        at = tuned.edge([trial.lr for trial in self.first], best.lr)
        return {"low": replace(best, lr=best.lr / 2), "high": replace(best, lr=2 * best.lr), "": None}[at]

    def job(self, row: Job, trial: Trial, *, doubled: bool = False) -> Job:
        """A trial of a row; doubled: twice as long, the warm-up too, for it is a share of the length."""
        times = 2 if doubled else 1
        settings = replace(
            row.settings,
            seed=self.seed,
            lr=trial.lr,
            updates=times * self.updates,
            warmup_updates=times * trial.warmup_updates,
            parts=self.parts,
            schedule=self.schedule,
            clip=self.clip,
            stop_below=self.stop_below,
        )
        told = f"lr {trial.lr:g} warm-up {settings.warmup_updates} of {settings.updates}"
        return replace(row, data=replace(row.data, ranked="dev"), settings=settings, arm=f"{row.arm} {told}".strip())

    def as_stored(self) -> TunedDesign:
        return TunedDesign(
            rates=list(self.rates),
            shares=list(self.shares),
            updates=self.updates,
            parts=self.parts,
            seed=self.seed,
            schedule=self.schedule,
            clip=self.clip,
            stop_below=self.stop_below,
        )


def design(data: Data, trials: int | None = None, updates: int | None = None) -> Design:
    """Of these data: the placement of an embedded set, the usual one of a folder.  Raises SpecError."""
    name = "" if data.own else data.name
    usual = embedded.EMBEDDED.get(name, {})
    length = usual.get("settings.updates", USUAL_UPDATES) if updates is None else updates
    looks = usual.get("settings.parts", Settings.parts)
    return Design(RATES.get(name, USUAL_RATES), length, len(ORDER) if trials is None else trials, parts=looks)


def winner(scores: Mapping[Trial, float | None]) -> Trial | None:
    """The best by dev Rsum, ties by `tuned.best`; None where no trial has a score."""
    order = list(scores)
    place = tuned.best([(trial.lr, trial.warmup_updates, scores[trial]) for trial in order])
    return None if place is None else order[place]


def data_of(data: Data) -> TunedData:
    return TunedData(
        name=data.name, fingerprint=data.fingerprint, train_images=data.train_images, dev_images=data.dev_images
    )


def conditions(job: Job) -> dict[str, Any]:
    """The settings that a winner holds for."""
    placed = {f.name for f in fields(job.settings) if not f.metadata.get("identity", True)}
    written = job.as_dict()["settings"]
    return {name: value for name, value in written.items() if name not in {*BY_HAND, *OF_ONE_RUN, *placed}}


def unfit(value: TunedRecord, job: Job) -> str:
    """Why a value says nothing of a job's data and settings, in a few words; "" where it does."""
    here = {"data": data_of(job.data), "settings": conditions(job)}
    for part, found in here.items():
        stored = getattr(value, part)
        for name in sorted((stored.keys() | found.keys()) - {"name"}):
            if stored.get(name) != found.get(name):
                return f"tuned with {part}.{name} {stored.get(name)}, here {found.get(name)}"
    return ""


def settle(value: TunedRecord, job: Job, told: Mapping[str, Any], name: str = "") -> tuple[Job, TunedFrom | None]:
    """A job with its row's winner, and where that is from; as it is and None where the row is untuned.

    told: what was set by hand, by path; it stands, and the row is then marked so.  Another length than that of the
    trials is nothing they can speak of, nor are they of a recipe that has changed.
    name: by which the trials know the row, where that is not the model's own.
    """
    name = name or registry.named(job.model)
    row = value.rows.get(name)
    by_hand = {path.partition(".")[2] for path in told if path.startswith("settings.")} & {*BY_HAND}
    length = told.get("settings.updates", value.design["updates"])
    if row is None or "epochs" in by_hand or length != value.design["updates"] or unfit(value, job):
        return job, None
    own = job.model.as_dict()
    # but for whose weights it takes: finals take others, by their seed
    its = {part: stored for part, stored in row["model"].items() if part not in ("taken", "stands_on")}
    if any(its.get(part) != own.get(part) for part in ("recipes", "origin")):
        return job, None
    found = {name: new for name, new in winning(value, row).items() if name not in by_hand}
    if "warmup_epochs" in by_hand:
        del found["warmup_updates"]
    marked = bool(by_hand - {"updates"}) or its != own
    settings = replace(job.settings, **found)
    return replace(job, settings=settings), TunedFrom(value=value.key, row=name, how=HAND if marked else OWN)


def settle_arm(
    value: TunedRecord, arm: Job, base: Job, source: TunedFrom | None, name: str
) -> tuple[Job, TunedFrom | None]:
    """An arm of an ablation: it has its base's settings, unless it, or the row that it is, had trials of its own.

    source: where the base's settings are from.  name: by which trials of the arm know it.
    """
    if source is None:
        return arm, None
    if arm.settings == base.settings and arm.model != base.model and source["how"] == OWN:
        for known in (name, registry.named(arm.model)):
            own, found = settle(value, arm, {}, known)
            if found is not None and found["how"] == OWN:
                return own, found
    return arm, TunedFrom(value=value.key, row=source["row"], how=BASE)


def winning(value: TunedRecord, row: TunedRow) -> dict[str, Any]:
    """The settings of a row's winner."""
    trial, design = row["trials"][row["winner"]], value.design
    return {"lr": trial["lr"], "warmup_updates": trial["warmup_updates"]} | {
        name: design[name] for name in ("updates", "parts", "schedule", "clip")
    }


def check_told(changes: Mapping[str, Any]) -> None:
    """What the design of the trials settles cannot be set beside it.  Raises SpecError."""
    for path in changes:
        if path == "data.ranked":
            raise SpecError("suite tune never looks at another split than dev: leave data.ranked out")
        if path.partition(".")[2] in {*BY_HAND, "seed", "train_share"} and path.startswith("settings."):
            raise SpecError(f"suite tune has its own {path}; its budget is --trials and --updates")
