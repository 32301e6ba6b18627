"""Records: what a run found, one immutable JSON file per job, with per-query ranks beside it.  No torch here.

FOLDER/records/KEY.json   the job, its outcome, its training history, where it came from
FOLDER/ranks/KEY.npz      per-query ranks and the first items retrieved
FOLDER/concepts/KEY.npz   what SelfAlign's concept level assigned, where a row has one
FOLDER/costs/KEY.json     time and memory samples of the timing phase
FOLDER/reranks/A-B.json   accuracy and time of rows A and B as retriever and reranker, for every shortlist size
FOLDER/indexes/KEY.json   recall and time of approximate search
FOLDER/asked/KEY.json     what a run asked for: rows, questions with their arms, settings swept
FOLDER/checkpoints/KEY/   weights; kept for timing, never committed
FOLDER/scores/KEY.npy     scores of a run that an ensemble averages; safe to delete, never committed
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import numpy as np

from harness import schema

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
        except (ValueError, RecursionError) as error:  # not only of syntax: numbers of thousands of digits
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
        if why := schema.problem(cls, stored):
            raise RecordError(f"{where}: {why}")
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
    best_epoch: int | None = None  # 0-based entry of the history, None where nothing was trained
    # one entry per epoch, or part of a length in updates; the last says `stopped`, where training ended before its time
    history: list[Mapping[str, Any]] = field(default_factory=list)
    data: Mapping[str, Any] = field(default_factory=dict)  # counts and notes of the splits
    seconds: Mapping[str, float] = field(
        default_factory=dict
    )  # wall time of train, encode, score, rank (not for comparison)
    peak_memory_mib: float | None = None  # of the process up to then, mapped files included
    tied_queries: int | None = None  # queries whose positive tied with a negative (ties count against the model)
    # where scores were not computed in float32, what that would have found: rsum, tied_queries, changed_i2t and
    # changed_t2i, the shares of queries whose rank is another
    fp32: Mapping[str, float] | None = None
    operators: Mapping[str, Any] | None = None  # stage -> its top operators, where traced (harness.measure.trace)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    members: list[str] = field(default_factory=list)  # keys of the runs whose scores an ensemble averages
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
class RerankRecord(_Stored):
    """What becomes of a shortlist of k by one model that another puts in order, for every k."""

    key: str  # of the retriever's job, a dash, of the reranker's
    retriever: str  # labels
    reranker: str
    machine: Mapping[str, Any]  # as in CostRecord
    sizes: Mapping[str, int]  # images, captions: the galleries
    ks: list[int]
    accuracy: Mapping[str, list[float]]  # name -> percent for every k (harness.measure.rerank.curve)
    queries: list[int]  # for every k, how many queries one sample averages at most
    samples_s: Mapping[str, list[list[float]]]  # stage -> for every k the seconds per query of each sample, in order
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        """Raises RecordError where a list is missing or not as long as that of the shortlist sizes."""
        try:
            lists = {"queries": self.queries, **self.accuracy, **self.samples_s}
            wrong = sorted(name for name, values in lists.items() if len(values) != len(self.ks))
        except TypeError as error:
            raise RecordError(f"reranks/{self.key} holds something else than lists: {error}") from None
        if wrong:
            raise RecordError(f"reranks/{self.key} has {len(self.ks)} shortlist sizes, but not in {', '.join(wrong)}")


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
class PosedQuestion:
    """An ablation asked of one job; keys of jobs."""

    name: str  # of its file
    question: str
    base: str
    arms: list[list[str]]  # [name, key] each, in the order of the file


@dataclass(frozen=True)
class AskedRecord(_Stored):
    """What one command asked for; the same command again writes the same file."""

    key: str  # hash of the rest
    suite: str
    published: bool  # every row has settings of its own, as it was published
    rows: list[str]  # keys of the jobs, and of the ensembles, that the comparison is of
    questions: list[Mapping[str, Any]]  # PosedQuestion each
    sweep: list[Mapping[str, Any]]  # settings that all rows ran under in turn, path -> value
    schema: int = SCHEMA

    @property
    def posed(self) -> list[PosedQuestion]:
        """Raises TypeError where one lacks a field."""
        return [PosedQuestion(**stored) for stored in self.questions]


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
    caption_to_image: np.ndarray | None = None  # (M,) int32; None of a record from before it was stored


@dataclass(frozen=True)
class Concepts:
    """What SelfAlign's concept level assigned: S captions of the ranked split with L words, P of its prototypes."""

    captions: np.ndarray  # (S,) int32 which captions, spread evenly over the split
    words: np.ndarray  # (S, L) str as the model knows them, "" where padded
    regions: np.ndarray  # (S, L) int32 the region of the caption's own image nearest to each word, -1 where padded
    similarities: np.ndarray  # (S, L) float32 cosine of the two
    word_prototypes: np.ndarray  # (S, L) int32 nearest to the word, -1 where padded
    region_prototypes: np.ndarray  # (S, L) int32 nearest to the region, -1 where padded
    prototypes: np.ndarray  # (P,) int32 which prototypes: the most used ones and those of the sample
    uses: np.ndarray  # (P,) int32 words of the whole split that are nearest to each
    top_words: np.ndarray  # (P, T) str the most frequent of those words, "" where there are fewer
    top_counts: np.ndarray  # (P, T) int32 how often
    top_regions: np.ndarray  # (P, T, 2) int32 image and region nearest to the prototype over the split, -1 where fewer
    top_similarities: np.ndarray  # (P, T) float32 cosine of the two
    total: np.ndarray  # () int32 prototypes there are


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

    def asked(self) -> list[AskedRecord]:
        """All of them, ordered by their file names.  Raises RecordError."""
        paths = sorted((self.folder / "asked").glob("[!.]*.json"))
        found = [AskedRecord.from_json(path.read_bytes(), _short(path)) for path in paths]
        for path, asked in zip(paths, found, strict=True):
            if asked.key != path.stem:
                raise RecordError(f"{_short(path)} holds what {asked.key!r} asked for")
        return found

    def checkpoints(self, key: str) -> Path:
        return self.folder / "checkpoints" / key

    def record(self, key: str) -> Record | None:
        """None where there is none.  Raises RecordError."""
        path = self.record_path(key)
        return Record.from_json(path.read_bytes(), _short(path)) if path.exists() else None

    def finished(self, key: str) -> Record | None:
        """The record of a job that need not run again: not one that failed, or whose ranks are gone."""
        record = self.record(key)
        return record if record is not None and record.status == "ok" and self.ranks_path(key).exists() else None

    def cost(self, key: str) -> CostRecord | None:
        path = self.cost_path(key)
        return CostRecord.from_json(path.read_bytes(), _short(path)) if path.exists() else None

    def rerank(self, retriever: str, reranker: str) -> RerankRecord | None:
        """Of two keys; None where there is none.  Raises RecordError."""
        path = self.rerank_path(retriever, reranker)
        if not path.exists():
            return None
        found = RerankRecord.from_json(path.read_bytes(), _short(path))
        if found.key != path.stem:
            raise RecordError(f"{_short(path)} holds the pair {found.key!r}")
        return found

    def reranks(self) -> list[RerankRecord]:
        """All of them, ordered by their file names.  Raises RecordError."""
        keys = [path.stem.partition("-") for path in sorted((self.folder / "reranks").glob("[!.]*.json"))]
        return [found for first, _, second in keys if (found := self.rerank(first, second)) is not None]

    def index(self, key: str) -> IndexRecord | None:
        path = self.index_path(key)
        return IndexRecord.from_json(path.read_bytes(), _short(path)) if path.exists() else None

    def ranks(self, key: str) -> Ranks | None:
        path = self.ranks_path(key)
        if not path.exists():
            return None
        with _readable(path):
            arrays = {name: _whole(array) for name, array in _checked_ranks(_arrays(path)).items()}
            groups = {n.removeprefix("group_"): arrays.pop(n) for n in list(arrays) if n.startswith("group_")}
            return Ranks(**arrays, groups=groups)

    def concepts(self, key: str) -> Concepts | None:
        """None where there are none.  Raises RecordError."""
        path = self.concepts_path(key)
        if not path.exists():
            return None
        with _readable(path):
            return Concepts(**_arrays(path))

    def scores(self, key: str) -> np.ndarray | None:
        """The (N, M) float32 score matrix, memory-mapped; None where there is none.  Raises RecordError."""
        path = self.scores_path(key)
        if not path.exists():
            return None
        try:
            scores = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise RecordError(f"{_short(path)} cannot be read: {error}") from None
        if scores.ndim != 2 or scores.dtype != np.float32:
            raise RecordError(f"{_short(path)} holds {scores.dtype} of shape {scores.shape}, not a score matrix")
        return scores

    def records(self) -> list[Record]:
        """All of them, ordered by label and seed."""
        keys = [path.stem for path in sorted((self.folder / "records").glob("*.json"))]
        found = [record for key in keys if (record := self.record(key)) is not None]
        return sorted(found, key=lambda r: (r.label, r.job["settings"]["seed"], r.key))

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
        self.index_path(record.key).unlink(missing_ok=True)
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
        for path in (self.record_path, self.ranks_path, self.cost_path, self.scores_path):
            path(key).unlink(missing_ok=True)

    def save_operators(self, key: str, operators: Mapping[str, Any]) -> None:
        """The one thing a record may gain later: what a tracing phase found.  Ranks and costs stay as they are."""
        record = self.record(key)
        if record is None:
            raise RecordError(f"{_short(self.record_path(key))} is gone")
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


def _checked_ranks(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a ranks file as they are.  Raises ValueError naming one of another type, shape or range."""
    captions = arrays["t2i"].shape
    for name, array in arrays.items():
        if name.startswith("group_"):
            if array.dtype != bool or array.shape != captions:
                raise ValueError(f"{name} must be {captions} bool, got {array.shape} {array.dtype}")
        elif array.dtype.kind not in "iu" or array.ndim != (2 if name.endswith("_top") else 1):
            raise ValueError(f"{name} must be whole numbers, got {array.dtype} of shape {array.shape}")
        elif array.size and not 0 <= int(array.min()) <= int(array.max()) < 2**31:
            raise ValueError(f"{name} must be from 0 to 2^31 - 1, got {array.min()} to {array.max()}")
    for name, own in (
        ("i2t_top", "i2t"),
        ("t2i_top", "t2i"),
        ("fold_of_image", "fold_i2t"),
        ("fold_of_caption", "fold_t2i"),
    ):
        if len(arrays[name]) != len(arrays[own]):
            raise ValueError(f"{name} must be as long as {own}, {len(arrays[own])}, got {len(arrays[name])}")
    owners = arrays.get("caption_to_image")
    if owners is not None and owners.shape != captions:
        raise ValueError(f"caption_to_image must be as long as t2i, {captions[0]}, got {len(owners)}")
    if owners is not None and not np.array_equal(np.unique(owners), np.arange(len(arrays["i2t"]))):
        raise ValueError(f"caption_to_image must name every one of {len(arrays['i2t'])} images and no other")
    return arrays


def _whole(array: np.ndarray) -> np.ndarray:
    """As they are in memory: whole numbers as int32."""
    return array.astype(np.int32) if array.dtype.kind in "iu" else array


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raises RecordError for a file that is damaged or not ours."""
    try:
        yield
    except (ValueError, TypeError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise RecordError(f"{_short(path)} cannot be read: {error}") from None


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
