"""What is stored of a run: one immutable JSON file per job and of what was measured beside it, arrays of each query.

Kinds of records with their schemas, and of arrays with their shapes; where they lie is told in `harness.store`.  No
torch here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Self, TypedDict

import numpy as np

from harness import schema

SCHEMA = 1
Key = Annotated[str, "[0-9a-f]{16}"]  # of a job
Pair = Annotated[str, "[0-9a-f]{16}-[0-9a-f]{16}"]  # of two
OWNERS = "caption_to_image"  # that ranks of before do not hold


class RecordError(ValueError):
    """A stored file that cannot be trusted: newer, incomplete or not ours.  One line that names it."""


def short(path: Path) -> str:
    """As errors name it."""
    return "/".join(path.parts[-3:])


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
        found = cls.from_json(path.read_bytes(), short(path))
        if found.key != path.stem:
            raise RecordError(f"{short(path)} holds the record of {found.key}")
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


def ranks_problem(arrays: Mapping[str, np.ndarray]) -> str:
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


def judged_problem(found: Judged) -> str:
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
