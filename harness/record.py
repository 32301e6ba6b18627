"""Records: what a run found, one immutable JSON file per job, with per-query ranks beside it.  No torch here.

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

import hashlib
import json
import os
import platform
import re
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, NotRequired, Self, TypedDict

import numpy as np

from harness import schema

SCHEMA = 1
Key = Annotated[str, "[0-9a-f]{16}"]  # of a job
Pair = Annotated[str, "[0-9a-f]{16}-[0-9a-f]{16}"]  # of two


OWNERS = "caption_to_image"  # that ranks of before do not hold


class RecordError(ValueError):
    """A stored file that cannot be trusted: newer, incomplete or not ours.  One line that names it."""


class _Stored:
    """JSON in, JSON out, strictly: a field missing or unknown is an error."""

    key: str
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
                f"{where} has schema {stored['schema']!a:.60}, this version reads up to {SCHEMA}: update the harness"
            )
        if why := schema.problem(cls, stored, needed=schema.needed(cls)):
            raise RecordError(f"{where}: {why}")
        try:
            return cls(**stored)
        except RecordError as error:
            raise RecordError(f"{where}: {error}") from None

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What lies there, None where nothing does.  Raises RecordError also where it is of another key."""
        if not path.exists():
            return None
        found = cls.from_json(path.read_bytes(), _short(path))
        if found.key != path.stem:
            raise RecordError(f"{_short(path)} holds the record of {found.key}")
        return found


class Exact(TypedDict):
    """What scores in float32 would have found, where they were not computed in it."""

    rsum: float
    tied_queries: float
    changed_i2t: float  # shares of queries whose rank is another
    changed_t2i: float


class Pretraining(TypedDict):
    """What a row brings that nobody here trained (harness.pretrained)."""

    model: str  # class of transformers
    pairs: int | None  # image-text pairs it was trained on, as the user said; None = not said
    parameters: int  # all of them
    precision: str
    pictures: str  # image processor


class Shortlisted(TypedDict):
    """What a row in two stages looked at closely, and how many percent of its queries had a right answer there."""

    k_i2t: int  # captions of an image query
    k_t2i: int  # images of a caption query
    i2t_ceiling: float  # the most that its R@1 can be
    t2i_ceiling: float


class Operator(TypedDict):
    name: str
    calls: float  # per step
    ms: float  # of its own, per step
    share: NotRequired[float]


class Traced(TypedDict):
    """Where the time of one step of a stage goes (harness.measure.trace)."""

    step_ms: float
    outside_ms: float
    parts: Mapping[str, float]
    top: list[Operator]


class Evaluated(TypedDict):
    """Whose weights a record is of, where nothing was trained for it."""

    run: str  # name of the results folder that they lie in
    key: Key  # of the job that trained them


@dataclass(frozen=True)
class Record(_Stored):
    """The outcome of one job."""

    key: Key
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
    fp32: Exact | None = None
    pretraining: Pretraining | None = None
    shortlist: Shortlisted | None = None
    operators: Mapping[str, Traced] | None = None  # stage -> its top operators, where traced
    provenance: Mapping[str, Any] = field(default_factory=dict)
    members: list[Key] = field(default_factory=list)  # of the runs whose scores an ensemble averages
    evaluated: Evaluated | None = None
    schema: int = SCHEMA


class Gallery(TypedDict):
    """One text query against so many images."""

    items: int
    p50_ms: float  # of scoring and ranking: the caption is encoded already
    p95_ms: float
    p99_ms: float
    measured: bool  # else from the law, and why in `note`
    note: str
    limit_ms: float | None  # reading the embeddings once
    bytes: NotRequired[float | None]
    stages_ms: NotRequired[Mapping[str, list[float]]]  # encode, search, rank -> of every query, in the same order
    build_samples_s: NotRequired[list[float]]  # what depends on the gallery alone, made ready
    samples_ms: NotRequired[list[float]]  # search and rank, of records from before their caption was encoded as well
    limit_samples_ms: NotRequired[list[float]]


@dataclass(frozen=True)
class CostRecord(_Stored):
    """Time of one method, stage by stage: every sample, in order."""

    key: Key  # of the job whose weights were timed
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
    query_encode_ms: list[float] = field(
        default_factory=list
    )  # one caption alone: among galleries that are none of `galleries`
    galleries: list[Gallery] = field(default_factory=list)
    law: Mapping[str, Any] = field(default_factory=dict)  # ms = intercept_ms + ms_per_item * items, and its residual
    schema: int = SCHEMA

    def __hash__(self) -> int:  # what is computed of one can be kept
        return hash(self.key)


RECALLS = tuple(f"{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10))
ACCURACIES = (*RECALLS, "i2t_ceiling", "t2i_ceiling", "rsum_ceiling")


@dataclass(frozen=True)
class RerankRecord(_Stored):
    """What becomes of a shortlist of k by one model that another puts in order, for every k."""

    key: Pair  # of the retriever's job and the reranker's
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
        lists = {"queries": self.queries, **self.accuracy, **self.samples_s}
        if lost := [name for name in ACCURACIES if name not in self.accuracy]:
            raise RecordError(f"accuracy lacks {', '.join(lost)}")
        if wrong := sorted(name for name, values in lists.items() if len(values) != len(self.ks)):
            raise RecordError(f"it has {len(self.ks)} shortlist sizes, but not in {', '.join(wrong)}")
        if not self.ks or self.ks != sorted(set(self.ks)):
            raise RecordError(f"ks must be growing shortlist sizes, got {self.ks!a:.60}")


class Searched(TypedDict):
    """One index over one gallery; None and a note where nothing was measured."""

    items: int
    index: str
    setting: str
    recall: float | None
    p50_ms: float | None
    samples_ms: list[float]
    build_s: float | None
    bytes: float | None
    note: str


@dataclass(frozen=True)
class IndexRecord(_Stored):
    """Approximate search over the embeddings of one row, beside exact search."""

    key: Key  # of the job whose weights made the embeddings
    label: str
    machine: Mapping[str, Any]
    gallery: str  # how galleries larger than the data were made
    neighbours: int  # k of recall@k, relative to exact search
    entries: Sequence[Searched]
    versions: Mapping[str, str | None] = field(default_factory=dict)
    schema: int = SCHEMA


class Extended(TypedDict):
    """What one row finds of one extended ground truth (harness.measure.extended)."""

    name: str
    digest: str  # of the truth
    queries: Mapping[str, float]  # way -> how many were judged
    percent: Mapping[str, Mapping[str, float]]  # way -> map_at_r, r_precision, r1, r5, r10; of identities map, minp too
    note: str


@dataclass(frozen=True)
class ExtendedRecord(_Stored):
    """Of all truths that were asked for; the lists themselves lie in FOLDER/tops."""

    key: Key
    label: str
    truths: list[Extended]
    schema: int = SCHEMA


@dataclass(frozen=True)
class PosedQuestion:
    """An ablation asked of one job; keys of jobs."""

    name: str  # of its file
    question: str
    base: Key
    arms: list[tuple[str, Key]]  # name and job of each, in the order of the file


class TunedFrom(TypedDict):
    """Where a job's settings are from."""

    value: Key  # of the tuned settings
    row: str  # the row of theirs
    how: Literal["own", "base", "by hand"]  # as the row's winner; of an arm as its base's; some were set by hand


@dataclass(frozen=True)
class AskedRecord(_Stored):
    """What one command asked for; the same command again writes the same file."""

    key: Key  # hash of the rest
    suite: str
    published: bool  # every row has settings of its own, as it was published
    rows: list[Key]  # of the jobs, and of the ensembles, that the comparison is of
    questions: list[Mapping[str, Any]]  # PosedQuestion each
    sweep: list[Mapping[str, Any]]  # of older records: settings that all rows ran under in turn, path -> value
    tuning: Mapping[str, TunedFrom] = field(default_factory=dict)  # key of a job -> whose tuned settings it has
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        """Raises RecordError where a question is none."""
        for place, question in enumerate(self.questions):
            if why := schema.problem(PosedQuestion, question, needed=schema.needed(PosedQuestion)):
                raise RecordError(f"questions.{place}: {why}")

    @property
    def posed(self) -> list[PosedQuestion]:
        return [PosedQuestion(**stored) for stored in self.questions]


@dataclass(frozen=True)
class Ranks:
    """Per-query ranks, 0-based, of the best positive; and what was retrieved first.  In memory whole numbers are int32.

    N images, M captions; F and G of each in contiguous folds, 0 where there are none.
    """

    i2t: Annotated[np.ndarray, "counts N"]
    t2i: Annotated[np.ndarray, "counts M"]
    i2t_top: Annotated[np.ndarray, "counts N k"]  # captions
    t2i_top: Annotated[np.ndarray, "counts M l"]  # images
    fold_i2t: Annotated[np.ndarray, "counts F"]  # ranks within the fold
    fold_t2i: Annotated[np.ndarray, "counts G"]
    fold_of_image: Annotated[np.ndarray, "counts F"]
    fold_of_caption: Annotated[np.ndarray, "counts G"]
    groups: Mapping[str, np.ndarray]  # name -> (M,) bool subsets of caption queries
    caption_to_image: np.ndarray | None = None  # (M,) int32; None of a record from before it was stored


@dataclass(frozen=True)
class Concepts:
    """What SelfAlign's concept level assigned: S captions of the ranked split with L words, P of its prototypes."""

    captions: Annotated[np.ndarray, "counts S"]  # which captions, spread evenly over the split
    words: Annotated[np.ndarray, "texts S L"]  # as the model knows them, "" where padded
    regions: Annotated[np.ndarray, "indices S L"]  # the region of the caption's own image nearest to each word
    similarities: Annotated[np.ndarray, "numbers S L"]  # cosine of the two
    word_prototypes: Annotated[np.ndarray, "indices S L"]  # nearest to the word
    region_prototypes: Annotated[np.ndarray, "indices S L"]  # nearest to the region
    prototypes: Annotated[np.ndarray, "counts P"]  # which prototypes: the most used ones and those of the sample
    uses: Annotated[np.ndarray, "counts P"]  # words of the whole split that are nearest to each
    top_words: Annotated[np.ndarray, "texts P T"]  # the most frequent of those words, "" where there are fewer
    top_counts: Annotated[np.ndarray, "counts P T"]  # how often
    top_regions: Annotated[np.ndarray, "indices P R 2"]  # image and region nearest to the prototype over the split
    top_similarities: Annotated[np.ndarray, "numbers P R"]  # cosine of the two
    total: Annotated[np.ndarray, "counts"]  # prototypes there are


@dataclass(frozen=True)
class Judged:
    """Scores of P pairs that people judged or that were collected together, and what was said (harness.measure.judged).

    K is 1, or 2 where captions rank images by scores of their own, which come last.
    """

    images: Annotated[np.ndarray, "counts P"]
    captions: Annotated[np.ndarray, "counts P"]
    own: Annotated[np.ndarray, "flags P"]  # collected together
    experts: Annotated[np.ndarray, "counts P"]  # the sum of three scores from 1 to 4, 0 = not asked
    yes: Annotated[np.ndarray, "counts P"]  # of the crowd
    votes: Annotated[np.ndarray, "counts P"]  # 0 = not asked
    scores: Annotated[np.ndarray, "numbers K P"]
    i2t_above: Annotated[np.ndarray, "counts P"]  # other captions that the image scores at least as high
    t2i_above: Annotated[np.ndarray, "counts P"]  # other images that the caption scores at least as high
    gallery: Annotated[np.ndarray, "counts 2"]  # images and captions that were ranked
    damaged: Annotated[np.ndarray, "counts 2"]  # lines of experts and crowd that could not be read
    outside: Annotated[np.ndarray, "counts 2"]  # judgements of theirs whose image or caption was not ranked
    digest: Annotated[np.ndarray, "texts"]  # of what was said and of which pairs

    def said(self) -> str:
        """The digest as it must be: equal ones have the same pairs and judgements in the same order."""
        sha = hashlib.sha256()
        for name in ("images", "captions", "own", "experts", "yes", "votes", "gallery", "damaged", "outside"):
            sha.update(np.ascontiguousarray(getattr(self, name), np.int64).tobytes())
        return sha.hexdigest()[:16]


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
        if why := schema.array_problem(arrays, layout) or _beyond(arrays):
            raise RecordError(f"{_short(path)}: {why}")
        numbers = {name: array.astype(np.int32) for name, array in arrays.items() if name not in masks}
        return Ranks(**numbers, groups={name.removeprefix("group_"): mask for name, mask in masks.items()})

    def concepts(self, key: str) -> Concepts | None:
        """None where there are none.  Raises RecordError."""
        path = self.concepts_path(key)
        if not path.exists():
            return None
        arrays = _arrays(path)
        if why := schema.array_problem(arrays, schema.layout(Concepts)):
            raise RecordError(f"{_short(path)}: {why}")
        return Concepts(**arrays)

    def judged(self, key: str) -> Judged | None:
        """None where there is none.  Raises RecordError."""
        path = self.judged_path(key)
        if not path.exists():
            return None
        arrays = _arrays(path)
        if why := schema.array_problem(arrays, schema.layout(Judged)) or _misjudged(Judged(**arrays)):
            raise RecordError(f"{_short(path)}: {why}")
        return Judged(**arrays)

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
            raise RecordError(f"{_short(path)} holds {scores.dtype} of shape {scores.shape}, not a score matrix")
        if not np.isfinite(scores.sum(dtype=np.float64)):  # of finite float32 it cannot overflow
            raise RecordError(f"{_short(path)} holds scores that are not finite")
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


def _beyond(arrays: Mapping[str, np.ndarray]) -> str:
    """Which ranks or items are none of their gallery; "" where all are."""
    images, captions = len(arrays["i2t"]), len(arrays["t2i"])
    folds = [arrays["fold_of_image"], arrays["fold_of_caption"]]
    count = max((int(fold.max()) + 1 for fold in folds if fold.size), default=0)
    if count > sum(map(len, folds)):
        return f"fold_of_image and fold_of_caption tell of fold {count - 1}, of so few queries"
    in_fold = [np.bincount(fold, minlength=count) for fold in folds]
    galleries = {
        "i2t": captions,
        "t2i": images,
        "i2t_top": captions,
        "t2i_top": images,
        "fold_i2t": in_fold[1][folds[0]],
        "fold_t2i": in_fold[0][folds[1]],
    }
    for name, gallery in galleries.items():
        limit = np.broadcast_to(gallery, arrays[name].shape)
        wrong = arrays[name] >= limit
        if wrong.any():
            return f"{name} has {arrays[name][wrong][0]}, counted from 0, in a gallery of {limit[wrong][0]}"
    if OWNERS in arrays and not np.array_equal(np.unique(arrays[OWNERS]), np.arange(images)):
        return f"{OWNERS} must name every one of {images} images and no other"
    return ""


def _misjudged(found: Judged) -> str:
    """Which judgements or places cannot be; "" where all can."""
    images, captions = found.gallery.tolist()
    limits = {"images": images, "captions": captions, "i2t_above": captions, "t2i_above": images}
    for name, limit in limits.items():
        if (wrong := getattr(found, name) >= limit).any():
            return f"{name} has {getattr(found, name)[wrong][0]}, counted from 0, in a gallery of {limit}"
    if len(found.scores) not in (1, 2):
        return f"scores must be of one or two directions, got {len(found.scores)}"
    if not (np.isin(found.experts, [0, *range(3, 13)]).all() and (found.yes <= found.votes).all()):
        return "experts must be 0 or from 3 to 12, and yes no more than votes"
    if len(np.unique(found.captions.astype(np.int64) * images + found.images)) != len(found.images):
        return "images and captions name a pair twice"
    return "" if found.digest.item() == found.said() else "digest is not that of the judgements"


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Raises RecordError for a file that is damaged or no npz file."""
    if not zipfile.is_zipfile(path):
        raise RecordError(f"{_short(path)} is cut short or no npz file")
    with _readable(path), path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raises RecordError for a file that is damaged or not ours, whatever the library that reads it makes of that."""
    try:
        yield
    except Exception as error:
        raise RecordError(f"{_short(path)} cannot be read: {' '.join(str(error).split())[:200]}") from None


def _short(path: Path) -> str:
    return "/".join(path.parts[-3:])


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """The whole file or none of it, whenever the process may die.  Raises Unwritable."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            write(file)
        except OSError as error:
            if error.errno is None:  # numpy tells how many items were written, and not where or why
                raise Unwritable(f"{path} cannot be written: {error}") from None
            raise
        file.flush()
        os.fsync(file.fileno())


class Unwritable(OSError):
    """A file that could not be written, of which nothing is there now; it names the file and why."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path to write to, renamed to `path` on success and removed on failure.  Raises Unwritable."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}@{_host()}.tmp")
    try:
        _make(path.parent)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise Unwritable(error.errno, error.strerror, str(path)) from None  # a full disk has no name of its own
    finally:
        with suppress(OSError):  # there is none, or no folder for it
            temporary.unlink()


def _make(folder: Path) -> None:
    """Raises Unwritable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unwritable(error.errno, error.strerror, error.filename) from None


FORGOTTEN_S = 7 * 24 * 3600  # nobody writes to one file for so long without changing it


def remove_leftovers(*folders: Path) -> None:
    """What processes of this machine that are gone were writing to these folders when they ended.

    Others may be writing there from another machine, whose processes cannot be seen from here: what is theirs goes
    when it has not changed for a week.
    """
    for path in (path for folder in folders for path in folder.glob(".*.tmp")):
        process, _, host = (path.suffixes[-2] if len(path.suffixes) > 1 else "").removeprefix(".").partition("@")
        here = host in ("", _host())  # none: of a version that did not tell
        if process.isdecimal() and (not _lives(int(process)) if here else _forgotten(path)):
            path.unlink(missing_ok=True)


def _forgotten(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > FORGOTTEN_S
    return False


@cache
def _host() -> str:
    """The name of this machine, as a part of the name of a file."""
    return re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:40]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
