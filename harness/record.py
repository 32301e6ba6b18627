"""Records: what a run found, one immutable JSON file per job, with per-query ranks beside it.  No torch here.

FOLDER/records/KEY.json   the job, its outcome, its training history, where it came from
FOLDER/ranks/KEY.npz      per-query ranks and the first items retrieved
FOLDER/costs/KEY.json     time and memory samples of the timing phase
FOLDER/indexes/KEY.json   recall and time of approximate search
FOLDER/checkpoints/KEY/   weights; kept for timing, never committed
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import numpy as np

SCHEMA = 1


class RecordError(ValueError):
    """A stored file that cannot be trusted: newer, incomplete or not ours.  One line that names it."""


class _Stored:
    """JSON in, JSON out, strictly: a field missing or unknown is an error."""

    schema: int

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Self:
        try:
            stored = json.loads(text)
        except UnicodeDecodeError as error:
            raise RecordError(f"{where} cannot be read: {error}") from None
        except json.JSONDecodeError as error:
            raise RecordError(f"{where} is not JSON: {error}") from None
        if not isinstance(stored, dict) or not isinstance(stored.get("schema"), int):
            raise RecordError(f"{where} has no schema number")
        if stored["schema"] > SCHEMA:
            raise RecordError(
                f"{where} has schema {stored['schema']}, this version reads up to {SCHEMA}: update the harness"
            )
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        needed = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}  # type: ignore[arg-type]
        if wrong := (stored.keys() - known) | (needed - stored.keys()):
            raise RecordError(f"{where} has unknown or missing fields: {', '.join(sorted(wrong))}")
        return cls(**stored)


@dataclass(frozen=True)
class Record(_Stored):
    """The outcome of one job."""

    key: str
    label: str  # the row's name
    status: Literal["ok", "failed"]
    job: Mapping[str, Any]
    family: str
    error: str | None = None  # one line, where failed
    parameters: int | None = None  # trained ones
    best_epoch: int | None = None  # 0-based, None where nothing was trained
    history: list[Mapping[str, Any]] = field(default_factory=list)  # one entry per epoch
    data: Mapping[str, Any] = field(default_factory=dict)  # counts and notes of the splits
    seconds: Mapping[str, float] = field(
        default_factory=dict
    )  # wall time of train, encode, score, rank (not for comparison)
    peak_memory_mib: float | None = None  # of the process up to then, mapped files included
    tied_queries: int | None = None  # queries whose positive tied with a negative (ties count against the model)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA


@dataclass(frozen=True)
class CostRecord(_Stored):
    """Time of one method, stage by stage: every sample, in order."""

    key: str  # of the job whose weights were timed
    label: str
    machine: Mapping[str, Any]  # device, threads, precision: only equal ones share a column
    sizes: Mapping[str, int]  # images, captions, queries of one sample
    samples_s: Mapping[str, list[float]]  # stage -> seconds of each sample
    index_bytes_per_image: float
    index_bytes_per_caption: float
    asked: Mapping[str, float] = field(default_factory=dict)  # rounds and budget_s of the timing phase
    noise: Mapping[str, float | None] = field(default_factory=dict)  # stage -> interquartile range / median
    parameters: int | None = None  # trained ones
    flops: Mapping[str, float] = field(default_factory=dict)  # per image, caption, pair: products and convolutions
    peak_memory_mib: float | None = None  # of the whole process while the stages ran, or of CUDA's allocator
    query_encode_ms: list[float] = field(default_factory=list)  # samples of one caption encoded alone
    # one text query, caption encoded already: items, p50_ms, p95_ms, p99_ms, measured (else from the law, and why in
    # note), bytes, samples_ms; limit_ms: reading the embeddings once
    galleries: list[Mapping[str, Any]] = field(default_factory=list)
    law: Mapping[str, Any] = field(default_factory=dict)  # ms = intercept_ms + ms_per_item * items, and its residual
    schema: int = SCHEMA


@dataclass(frozen=True)
class IndexRecord(_Stored):
    """Approximate search over the embeddings of one row, beside exact search."""

    key: str  # of the job whose weights made the embeddings
    label: str
    machine: Mapping[str, Any]
    gallery: str  # how galleries larger than the data were made
    neighbours: int  # k of recall@k, relative to exact search
    # items, index, setting, recall, p50_ms, samples_ms, build_s, bytes; None and a note where nothing was measured
    entries: Sequence[Mapping[str, Any]]
    versions: Mapping[str, str | None] = field(default_factory=dict)
    schema: int = SCHEMA


@dataclass(frozen=True)
class Ranks:
    """Per-query ranks, 0-based, of the best positive; and what was retrieved first."""

    i2t: np.ndarray  # (N,) int32, one per image query
    t2i: np.ndarray  # (M,) int32, one per caption query
    i2t_top: np.ndarray  # (N, k) int32 captions
    t2i_top: np.ndarray  # (M, k) int32 images
    fold_i2t: np.ndarray  # (folds * n,) int32 ranks within contiguous folds, empty where there are none
    fold_t2i: np.ndarray
    fold_of_image: np.ndarray  # (folds * n,) int32
    fold_of_caption: np.ndarray
    groups: Mapping[str, np.ndarray]  # name -> (M,) bool subsets of caption queries


class Store:
    """The folder of one suite on one data set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record_path(self, key: str) -> Path:
        return self.folder / "records" / f"{key}.json"

    def ranks_path(self, key: str) -> Path:
        return self.folder / "ranks" / f"{key}.npz"

    def cost_path(self, key: str) -> Path:
        return self.folder / "costs" / f"{key}.json"

    def index_path(self, key: str) -> Path:
        return self.folder / "indexes" / f"{key}.json"

    def checkpoints(self, key: str) -> Path:
        return self.folder / "checkpoints" / key

    def record(self, key: str) -> Record | None:
        """None where there is none.  Raises RecordError."""
        path = self.record_path(key)
        return Record.from_json(path.read_bytes(), _short(path)) if path.exists() else None

    def cost(self, key: str) -> CostRecord | None:
        path = self.cost_path(key)
        return CostRecord.from_json(path.read_bytes(), _short(path)) if path.exists() else None

    def index(self, key: str) -> IndexRecord | None:
        path = self.index_path(key)
        return IndexRecord.from_json(path.read_bytes(), _short(path)) if path.exists() else None

    def ranks(self, key: str) -> Ranks | None:
        path = self.ranks_path(key)
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            groups = {n.removeprefix("group_"): arrays.pop(n) for n in list(arrays) if n.startswith("group_")}
            return Ranks(**arrays, groups=groups)
        except (ValueError, TypeError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise RecordError(f"{_short(path)} cannot be read: {error}") from None

    def records(self) -> list[Record]:
        """All of them, ordered by label and seed."""
        keys = [path.stem for path in sorted((self.folder / "records").glob("*.json"))]
        found = [record for key in keys if (record := self.record(key)) is not None]
        return sorted(found, key=lambda r: (r.label, r.job["settings"]["seed"], r.key))

    def save(self, record: Record, ranks: Ranks | None = None) -> None:
        """Ranks first, so that a record on disk always has its ranks; nothing of an earlier run of the job stays."""
        self.cost_path(record.key).unlink(missing_ok=True)
        self.index_path(record.key).unlink(missing_ok=True)
        if ranks is None:
            self.ranks_path(record.key).unlink(missing_ok=True)
        else:
            arrays = {f.name: getattr(ranks, f.name) for f in fields(ranks) if f.name != "groups"}
            arrays |= {f"group_{name}": mask for name, mask in ranks.groups.items()}
            write_atomically(self.ranks_path(record.key), lambda file: np.savez_compressed(file, **arrays))
        write_atomically(self.record_path(record.key), lambda file: file.write(record.to_json().encode()))

    def save_cost(self, cost: CostRecord) -> None:
        write_atomically(self.cost_path(cost.key), lambda file: file.write(cost.to_json().encode()))

    def save_index(self, index: IndexRecord) -> None:
        write_atomically(self.index_path(index.key), lambda file: file.write(index.to_json().encode()))


def _short(path: Path) -> str:
    return "/".join(path.parts[-3:])


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """The whole file or none of it, whenever the process may die."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path to write to, renamed to `path` on success and removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
