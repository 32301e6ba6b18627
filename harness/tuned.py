"""Tuned settings as a stored value: what every row was tried with on dev, which trial won, and on which data.

One JSON file per data set, `<name>.json` for embedded data and `<name>-<fingerprint>.json` for a folder of one's own;
its key is a hash of its content.  A results folder keeps a copy of the one its rows came from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from filelock import FileLock

from harness.atomic import make_folder, write_atomically
from harness.record import SCHEMA, Key, RecordError, _Stored

QUESTIONS = "ablations"  # folder of the questions
DIGITS = 8  # of the fingerprint, in the name of a file of one's own data
UNSET = "0" * 16


class TunedData(TypedDict):
    """Data that trials trained on and were compared on."""

    name: str
    fingerprint: str
    train_images: int  # only the first so many, 0 = all
    dev_images: int


class TunedDesign(TypedDict):
    """What all rows have in common (harness.spec.tuning.Design)."""

    rates: list[float]
    shares: list[float]  # of the updates, the hinge's warm-up
    updates: int
    parts: int
    seed: int
    schedule: str
    clip: float
    stop_below: float


class TunedTrial(TypedDict):
    """One training run on the way to tuned settings."""

    lr: float
    warmup_updates: int
    dev_rsum: float | None  # the best of its parts; None where it failed
    best_part: int | None  # from 1
    parts: int  # that it went through
    stopped: bool  # before its time
    key: Key  # of its job
    seconds: float  # of training, looks at dev included


class TunedRow(TypedDict):
    """One row, by its name in the file (registry.named), or an arm (Question.named)."""

    model: Mapping[str, Any]  # resolved, with its recipes
    trials: list[TunedTrial]  # in the order of the design, a step outward last
    winner: int  # which trial, from 0
    edge: Literal["", "low", "high"]  # whether the winner's rate is the lowest or the highest tried
    outward: int  # steps beyond the rates of the design
    doubled: TunedTrial | None  # the winner trained twice as long; None where that failed


@dataclass(frozen=True)
class TunedRecord(_Stored):
    """The value: data, design and rows."""

    key: Key  # hash of the rest
    data: TunedData
    settings: Mapping[str, Any]  # all others of the trials: what they hold for
    design: TunedDesign
    rows: Mapping[str, TunedRow]  # by name
    schema: int = SCHEMA

    @property
    def without_arms(self) -> Mapping[str, TunedRow]:
        """Its rows proper."""
        return {name: row for name, row in self.rows.items() if not is_arm(name)}

    def __post_init__(self) -> None:
        """Raises RecordError naming the field where what is stored contradicts itself."""
        for label, row in self.rows.items():
            if why := _contradiction(row, self.design):
                raise RecordError(f"rows.{label}.{why}")
        if self.key != (known := content_key(self)):
            raise RecordError(f"key must be the hash of what it holds, {known}, got {self.key}")


def is_arm(name: str) -> bool:
    """Whether trials are of an arm, `ablations/prototypes/vsepp+selfalign: 64`, and not of a row."""
    return name.startswith(f"{QUESTIONS}/")


def made(
    data: TunedData, settings: Mapping[str, Any], design: TunedDesign, rows: Mapping[str, TunedRow]
) -> TunedRecord:
    """The value of these parts, rows by their labels, as it reads once stored.  Raises RecordError."""
    content = {
        "data": data,
        "settings": settings,
        "design": design,
        "rows": {name: rows[name] for name in sorted(rows)},
    }
    plain = json.loads(json.dumps(content, allow_nan=False))
    return TunedRecord(key=_hash(plain), **plain)


def content_key(value: TunedRecord) -> str:
    stored = asdict(value)
    return _hash({name: stored[name] for name in ("data", "settings", "design", "rows")})


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def best(scores: Sequence[tuple[float, int, float | None]]) -> int | None:
    """Which of (rate, warm-up, dev Rsum) wins: the highest, of equal ones the smaller rate, then the shorter warm-up.

    None where none has a score.
    """
    able = [place for place, (*_, score) in enumerate(scores) if score is not None]
    return min(able, key=lambda place: (-(scores[place][2] or 0.0), *scores[place][:2]), default=None)


def edge(rates: Sequence[float], rate: float) -> Literal["", "low", "high"]:
    """Where a rate lies among those tried."""
    return "low" if rate == min(rates) else "high" if rate == max(rates) else ""


def _contradiction(row: TunedRow, design: TunedDesign) -> str:
    """What of a row cannot be, the field first; "" where all can."""
    trials, updates = row["trials"], design["updates"]
    found = best([(trial["lr"], trial["warmup_updates"], trial["dev_rsum"]) for trial in trials])
    if found is None or row["winner"] != found:
        return f"winner must be the best of the trials, {found}, got {row['winner']}"
    for place, trial in enumerate(trials):
        if why := _impossible(trial, updates, design["parts"]):
            return f"trials.{place}.{why}"
    if len({(trial["lr"], trial["warmup_updates"]) for trial in trials}) < len(trials):
        return "trials holds one twice"
    if (outward := row["outward"]) > 1 or (outward and not _beyond([trial["lr"] for trial in trials])):
        return f"outward must be 0, or 1 where the last trial's rate is beyond all others, got {outward}"
    winner = trials[found]
    at = edge([trial["lr"] for trial in trials], winner["lr"])
    if row["edge"] != at:
        return f"edge must be {at!r} by the rates tried, got {row['edge']!r}"
    doubled = row["doubled"]
    if doubled is None:
        return ""
    if doubled["lr"] != winner["lr"]:
        return f"doubled.lr must be the winner's, {winner['lr']}, got {doubled['lr']}"
    why = _impossible(doubled, 2 * updates, design["parts"])
    return why and f"doubled.{why}"


def _beyond(rates: Sequence[float]) -> bool:
    """Whether the last rate lies outside the others."""
    *others, last = rates
    return bool(others) and not min(others) <= last <= max(others)


def _impossible(trial: TunedTrial, updates: int, most: int) -> str:
    if not trial["lr"] > 0:
        return f"lr must be positive, got {trial['lr']}"
    if not 0 < trial["warmup_updates"] < updates:
        return f"warmup_updates must be from 1 to {updates - 1}, got {trial['warmup_updates']}"
    if trial["parts"] > most:
        return f"parts must be at most {most}, got {trial['parts']}"
    if (trial["dev_rsum"] is None) != (trial["best_part"] is None):
        return "best_part must be there where dev_rsum is, and only there"
    if trial["best_part"] is not None and not 1 <= trial["best_part"] <= trial["parts"]:
        return f"best_part must be from 1 to {trial['parts']}, got {trial['best_part']}"
    return ""


# Files -------------------------------------------------------------------------------------------------------------


def file_name(data: TunedData, own: bool) -> str:
    """own: a folder, which may be called like other data."""
    return f"{data['name']}-{data['fingerprint'][:DIGITS]}.json" if own else f"{data['name']}.json"


def load(path: Path) -> TunedRecord:
    """Raises RecordError, one line that names file and field, and OSError."""
    return TunedRecord.from_json(path.read_bytes(), _short(path))


def find(folders: Sequence[Path], name: str, fingerprint: str, own: bool) -> tuple[Path, TunedRecord] | None:
    """What is stored for data of this fingerprint, the earlier folder first; a folder of one's own may have been
    renamed since.  None where there is nothing, or what goes by that name is of other data.  Raises RecordError.
    """
    pattern = f"*-{fingerprint[:DIGITS]}.json" if own else f"{name}.json"
    for path in (path for folder in folders for path in sorted(folder.glob(pattern))):
        found = load(path)
        if found.data["fingerprint"] == fingerprint:
            return path, found
    return None


def merged(old: TunedRecord | None, new: TunedRecord) -> TunedRecord:
    """The rows of both: a row of `new` replaces its older self, but for one of the same model that had more trials.

    Of other data nothing old is kept.  Raises RecordError where settings or design differ: such rows are no equals.
    """
    if old is None or old.data["fingerprint"] != new.data["fingerprint"]:
        return new
    if differing := unlike(old, new):
        raise RecordError(f"tuned before under other conditions ({differing})")
    kept = {label: row for label, row in old.rows.items() if not _replaces(new.rows.get(label), row)}
    return made(new.data, new.settings, new.design, {**new.rows, **kept})


def unlike(old: TunedRecord, new: TunedRecord) -> str:
    """The conditions in which two values differ: `design.updates 600 and 1500`; "" where they are the same."""
    pairs = [(part, getattr(old, part), getattr(new, part)) for part in ("data", "settings", "design")]
    return ", ".join(
        f"{part}.{name} {first.get(name)} and {second.get(name)}"
        for part, first, second in pairs
        for name in sorted((first.keys() | second.keys()) - {"name"})
        if first.get(name) != second.get(name)
    )


def _replaces(new: TunedRow | None, old: TunedRow) -> bool:
    return new is not None and (new["model"] != old["model"] or len(new["trials"]) >= len(old["trials"]))


def with_stored(path: Path, new: TunedRecord) -> TunedRecord:
    """What the file would hold with `new` merged into it.  Raises RecordError where they cannot be one."""
    old = load(path) if path.exists() else None
    try:
        return merged(old, new)
    except RecordError as error:
        raise RecordError(f"{_short(path)}: {error}; remove it, or name another --results") from None


def store(path: Path, new: TunedRecord) -> TunedRecord:
    """Merges into the file, whoever else writes to it.  Returns what it holds.  Raises RecordError and OSError."""
    make_folder(path.parent)
    with FileLock(path.parent / f".{path.name}.lock"):
        whole = with_stored(path, new)
        write_atomically(path, lambda file: file.write(whole.to_json().encode()))
    return whole


def _short(path: Path) -> str:
    return "/".join(path.parts[-2:])


def keep(folder: Path, value: TunedRecord) -> None:
    """A copy within a results folder, by its key."""
    path = folder / "tuned" / f"{value.key}.json"
    if not path.exists():
        write_atomically(path, lambda file: file.write(value.to_json().encode()))


def kept(folder: Path) -> Mapping[str, TunedRecord]:
    """Key -> value, of all copies within a results folder.  Raises RecordError."""
    found = [TunedRecord.read(path) for path in sorted((folder / "tuned").glob("[!.]*.json"))]
    return {value.key: value for value in found if value is not None}


def narrowed(value: TunedRecord, labels: Sequence[str]) -> TunedRecord:
    """Only these rows of it."""
    return made(value.data, value.settings, value.design, {n: r for n, r in value.rows.items() if n in labels})
