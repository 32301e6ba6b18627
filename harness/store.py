"""Where records lie, read strictly and written whole.  No torch here.

FOLDER/records/KEY.json   the job, its outcome, its training history, where it came from
FOLDER/ranks/KEY.npz      per-query ranks and the first items retrieved
FOLDER/concepts/KEY.npz   what SelfAlign's concept level assigned, where a row has one
FOLDER/costs/KEY.json     time and memory samples of the timing phase
FOLDER/reranks/A-B.json   accuracy and time of rows A and B as retriever and reranker, for every shortlist size
FOLDER/indexes/KEY.json   recall and time of approximate search
FOLDER/extended/KEY.json  what a row finds of extended ground truths, with its lists in FOLDER/tops/KEY.npz
FOLDER/judged/KEY.npz     scores of the pairs that people judged, and what they said of them; never committed
FOLDER/asked/KEY.json     what a run asked for: rows, questions with their arms, whose tuned settings they have
FOLDER/tuned/KEY.json     those tuned settings, as a copy (harness.tuned)
FOLDER/checkpoints/KEY/   weights and the vocabulary they read; kept for timing and evaluation, never committed
FOLDER/scores/KEY.npy     scores of a run that an ensemble averages; safe to delete, never committed
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from harness import schema
from harness.atomic import write_atomically
from harness.record import (
    OWNERS,
    AskedRecord,
    Concepts,
    CostRecord,
    ExtendedRecord,
    IndexRecord,
    Judged,
    Ranks,
    Record,
    RecordError,
    RerankRecord,
    judged_problem,
    ranks_problem,
    short,
)

T = TypeVar("T")


class Store:
    """The folder of one suite on one data set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record_path(self, key: str) -> Path:
        return self.folder / "records" / f"{key}.json"

    def ranks_path(self, key: str) -> Path:
        return self.folder / "ranks" / f"{key}.npz"

    def concepts_path(self, key: str) -> Path:
        return self.folder / "concepts" / f"{key}.npz"

    def cost_path(self, key: str) -> Path:
        return self.folder / "costs" / f"{key}.json"

    def scores_path(self, key: str) -> Path:
        return self.folder / "scores" / f"{key}.npy"

    def rerank_path(self, retriever: str, reranker: str) -> Path:
        return self.folder / "reranks" / f"{retriever}-{reranker}.json"

    def index_path(self, key: str) -> Path:
        return self.folder / "indexes" / f"{key}.json"

    def extended_path(self, key: str) -> Path:
        return self.folder / "extended" / f"{key}.json"

    def tops_path(self, key: str) -> Path:
        return self.folder / "tops" / f"{key}.npz"

    def judged_path(self, key: str) -> Path:
        return self.folder / "judged" / f"{key}.npz"

    def asked(self) -> list[AskedRecord]:
        """All of them, ordered by their file names.  Raises RecordError."""
        paths = sorted((self.folder / "asked").glob("[!.]*.json"))
        return [asked for path in paths if (asked := AskedRecord.read(path)) is not None]

    def checkpoints(self, key: str) -> Path:
        return self.folder / "checkpoints" / key

    def record(self, key: str) -> Record | None:
        """None where there is none.  Raises RecordError."""
        return Record.read(self.record_path(key))

    def finished(self, key: str) -> Record | None:
        """The record of a job that need not run again: not one that failed, or whose ranks are gone."""
        record = self.record(key)
        return record if record is not None and record.status == "ok" and self.ranks_path(key).exists() else None

    def cost(self, key: str) -> CostRecord | None:
        return CostRecord.read(self.cost_path(key))

    def rerank(self, retriever: str, reranker: str) -> RerankRecord | None:
        """Of two keys; None where there is none.  Raises RecordError."""
        return RerankRecord.read(self.rerank_path(retriever, reranker))

    def reranks(self) -> list[RerankRecord]:
        """All of them, ordered by their file names.  Raises RecordError."""
        paths = sorted((self.folder / "reranks").glob("[!.]*.json"))
        return [pair for path in paths if (pair := RerankRecord.read(path)) is not None]

    def index(self, key: str) -> IndexRecord | None:
        return IndexRecord.read(self.index_path(key))

    def extended(self, key: str) -> ExtendedRecord | None:
        return ExtendedRecord.read(self.extended_path(key))

    def save_extended(self, found: ExtendedRecord, i2t: np.ndarray, t2i: np.ndarray) -> None:
        """With the lists it was measured on, (N, k) and (M, l) int; the record goes last."""
        lists: dict[str, Any] = {"i2t": _narrow(i2t), "t2i": _narrow(t2i)}
        write_atomically(self.tops_path(found.key), lambda file: np.savez_compressed(file, **lists))
        write_atomically(self.extended_path(found.key), lambda file: file.write(found.to_json().encode()))

    def ranks(self, key: str) -> Ranks | None:
        """None where there are none.  Raises RecordError."""
        path = self.ranks_path(key)
        if not path.exists():
            return None
        arrays = _arrays(path)
        masks = {name: array for name, array in arrays.items() if name.startswith("group_")}
        owners = {OWNERS: "counts M"} if OWNERS in arrays else {}
        layout = {**schema.layout(Ranks), **dict.fromkeys(masks, "flags M"), **owners}
        if why := schema.array_problem(arrays, layout) or ranks_problem(arrays):
            raise RecordError(f"{short(path)}: {why}")
        numbers = {name: array.astype(np.int32) for name, array in arrays.items() if name not in masks}
        return Ranks(**numbers, groups={name.removeprefix("group_"): mask for name, mask in masks.items()})

    def concepts(self, key: str) -> Concepts | None:
        """None where there are none.  Raises RecordError."""
        return _read(self.concepts_path(key), Concepts)

    def judged(self, key: str) -> Judged | None:
        """None where there is none.  Raises RecordError."""
        return _read(self.judged_path(key), Judged, judged_problem)

    def save_judged(self, key: str, found: Judged) -> None:
        arrays: dict[str, Any] = {f.name: _narrow(getattr(found, f.name)) for f in fields(found)}
        write_atomically(self.judged_path(key), lambda file: np.savez_compressed(file, **arrays))

    def scores(self, key: str) -> np.ndarray | None:
        """The (N, M) float32 score matrix, memory-mapped; None where there is none.  Raises RecordError."""
        path = self.scores_path(key)
        if not path.exists():
            return None
        with _readable(path):
            scores = np.load(path, mmap_mode="r", allow_pickle=False)
        if scores.ndim != 2 or scores.dtype != np.float32:
            raise RecordError(f"{short(path)} holds {scores.dtype} of shape {scores.shape}, not a score matrix")
        if not np.isfinite(scores.sum(dtype=np.float64)):  # of finite float32 it cannot overflow
            raise RecordError(f"{short(path)} holds scores that are not finite")
        return scores

    def records(self) -> list[Record]:
        """All of them, ordered by label and seed."""
        keys = [path.stem for path in sorted((self.folder / "records").glob("[!.]*.json"))]
        found = [record for key in keys if (record := self.record(key)) is not None]
        return sorted(found, key=lambda r: (r.label, r.job["settings"]["seed"], r.key))

    def rows(self) -> list[Record]:
        """Single models that ended well, ordered by label and seed.

        Arms of questions share the labels of rows: they are left out where a row of their label is here.
        """
        stored = self.asked()
        wanted = {key for asked in stored for key in (*asked.rows, *(question.base for question in asked.posed))}
        arms = {key for asked in stored for question in asked.posed for _, key in question.arms} - wanted
        found = [record for record in self.records() if record.status == "ok" and not record.members]
        plain = {record.label for record in found if record.key not in arms}
        return [record for record in found if record.key not in arms or record.label not in plain]

    def save(self, record: Record, ranks: Ranks | None = None, concepts: Concepts | None = None) -> None:
        """Ranks first, so that a record on disk always has its ranks; nothing of an earlier run of the job stays."""
        self.cost_path(record.key).unlink(missing_ok=True)
        if concepts is None:
            self.concepts_path(record.key).unlink(missing_ok=True)
        else:
            assigned = {f.name: getattr(concepts, f.name) for f in fields(concepts)}
            write_atomically(self.concepts_path(record.key), lambda file: np.savez_compressed(file, **assigned))
        for path in (self.folder / "reranks").glob(f"*{record.key}*.json"):
            path.unlink()
        for path in (self.index_path, self.extended_path, self.tops_path, self.judged_path):
            path(record.key).unlink(missing_ok=True)
        if ranks is None:
            self.ranks_path(record.key).unlink(missing_ok=True)
            self.scores_path(record.key).unlink(missing_ok=True)
        else:
            arrays = {f.name: array for f in fields(ranks) if isinstance(array := getattr(ranks, f.name), np.ndarray)}
            arrays |= {f"group_{name}": mask for name, mask in ranks.groups.items()}
            small: dict[str, Any] = {name: _narrow(array) for name, array in arrays.items()}
            write_atomically(self.ranks_path(record.key), lambda file: np.savez_compressed(file, **small))
        write_atomically(self.record_path(record.key), lambda file: file.write(record.to_json().encode()))

    def save_scores(self, key: str, scores: np.ndarray) -> None:
        """scores: (N, M) float32."""
        write_atomically(self.scores_path(key), lambda file: np.save(file, scores, allow_pickle=False))

    def remove(self, key: str) -> None:
        """The record of this key and what lies beside it; weights stay.  The record goes first."""
        beside = (self.extended_path, self.tops_path, self.judged_path)
        for path in (self.record_path, self.ranks_path, self.cost_path, self.scores_path, *beside):
            path(key).unlink(missing_ok=True)

    def save_operators(self, key: str, operators: Mapping[str, Any]) -> None:
        """The one thing a record may gain later: what a tracing phase found.  Ranks and costs stay as they are."""
        record = self.record(key)
        if record is None:
            raise RecordError(f"{short(self.record_path(key))} is gone")
        traced = replace(record, operators=operators)
        write_atomically(self.record_path(key), lambda file: file.write(traced.to_json().encode()))

    def save_rerank(self, found: RerankRecord) -> None:
        retriever, _, reranker = found.key.partition("-")
        path = self.rerank_path(retriever, reranker)
        write_atomically(path, lambda file: file.write(found.to_json().encode()))

    def save_cost(self, cost: CostRecord) -> None:
        write_atomically(self.cost_path(cost.key), lambda file: file.write(cost.to_json().encode()))

    def save_asked(self, asked: AskedRecord) -> None:
        path = self.folder / "asked" / f"{asked.key}.json"
        write_atomically(path, lambda file: file.write(asked.to_json().encode()))

    def save_index(self, index: IndexRecord) -> None:
        write_atomically(self.index_path(index.key), lambda file: file.write(index.to_json().encode()))


def _narrow(array: np.ndarray) -> np.ndarray:
    """Whole numbers in the fewest bytes that hold them: ranks among thousands need two, and compress better."""
    if array.dtype.kind != "i" or not array.size:
        return array
    return array.astype(np.promote_types(np.min_scalar_type(int(array.min())), np.min_scalar_type(int(array.max()))))


def _read(path: Path, kind: type[T], problem: Callable[[T], str] = lambda _: "") -> T | None:
    """Arrays of a kind; None where there are none.  Raises RecordError where the schema or `problem` finds fault."""
    if not path.exists():
        return None
    arrays = _arrays(path)
    if why := schema.array_problem(arrays, schema.layout(kind)) or problem(kind(**arrays)):
        raise RecordError(f"{short(path)}: {why}")
    return kind(**arrays)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Raises RecordError for a file that is damaged or no npz file."""
    if not zipfile.is_zipfile(path):
        raise RecordError(f"{short(path)} is cut short or no npz file")
    with _readable(path), path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raises RecordError for a file that is damaged or not ours, whatever the library that reads it makes of that."""
    try:
        yield
    except Exception as error:
        raise RecordError(f"{short(path)} cannot be read: {' '.join(str(error).split())[:200]}") from None
