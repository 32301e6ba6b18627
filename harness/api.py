"""The harness from Python: scores or embeddings to metrics, exact search, stored results as a table, one job run.

scores = images @ captions.T                    # (N, M), higher is more alike
evaluate(scores, image_of_caption).metrics["rsum"]
load("results/full-scenes").groupby("label")["rsum"].mean()
run("vsepp+selfalign", "results/mine", data="features/mine", changes={"settings.epochs": 3})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from harness.data import sources
from harness.data.given import places
from harness.data.split import DataError
from harness.measure import metrics
from harness.record import Record
from harness.spec import needs, registry, suites, taken
from harness.spec.given import Request
from harness.spec.job import Job
from harness.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from harness.report.read.runs import Run

BLOCK_ROWS = 128  # queries scored at a time


@dataclass(frozen=True)
class Row:
    """A method that was run elsewhere, to be evaluated: its scores, or embeddings whose inner products they are."""

    name: str
    scores: ArrayLike | None = None  # (N, M) images by captions
    images: ArrayLike | None = None  # (N, d)
    captions: ArrayLike | None = None  # (M, d)
    about: Mapping[str, Any] = field(default_factory=dict)  # anything worth keeping: source, seed, machine
    file: str | Path | Sequence[str | Path] = ()  # in place of arrays, as `--row` takes it: one file or two `.npy`
    scorer: str = ""  # of embeddings: cosine, max-sum ... (`harness.spec.given.SCORERS`); "" = inner products
    image_mask: ArrayLike | None = None  # (N, K) bool where an image has K vectors, (N, K, d)
    caption_mask: ArrayLike | None = None
    scores_t2i: ArrayLike | None = None  # (N, M) by which captions rank images, where it is not `scores`
    axes: str = ""  # captions-images: scores lie the other way round

    @property
    def plain(self) -> bool:
        """Whether it is one matrix, or two sides of one vector an item, in memory."""
        elsewhere = (self.file, self.scorer, self.axes)
        return not any(elsewhere) and all(a is None for a in (self.image_mask, self.caption_mask, self.scores_t2i))

    @property
    def matrix(self) -> np.ndarray:
        """(N, M) scores, finite.  Raises DataError."""
        if (self.scores is None) == (self.images is None) or (self.images is None) != (self.captions is None):
            raise DataError(f"{self.name}: give scores, or images and captions")
        if self.scores is not None:
            return _matrix(self.scores, f"{self.name}: scores")
        images, captions = _pair(self.images, self.captions, f"{self.name}: images", f"{self.name}: captions")
        return images @ captions.T


@dataclass(frozen=True)
class Evaluation:
    """Ranks of every query, 0-based with ties against the model, and what they come to."""

    name: str
    i2t: np.ndarray  # (N,) int32, of image queries by the best of their captions
    t2i: np.ndarray  # (M,) int32, of caption queries
    tied_queries: int
    metrics: Mapping[str, float]  # i2t_r1 ... t2i_r10 in percent, rsum, median and mean ranks (1-based)
    folds: Mapping[str, float]  # the same, averaged over folds; empty without
    notes: tuple[str, ...] = ()  # what was found and done on the way, such as images that were there twice
    about: Mapping[str, Any] = field(default_factory=dict)


def evaluate(
    given: ArrayLike | tuple[ArrayLike, ArrayLike] | Row | str | Path,
    image_of_caption: ArrayLike | Mapping[Any, Any] | None = None,
    *,
    fold: int = 0,
) -> Evaluation:
    """Ranks and recalls of N images and M captions.

    given: (N, M) scores, higher = more alike; or a pair of embeddings (N, d) and (M, d), scored by inner products as
    they are; or the path of a file; or a `Row` of any of these.
    image_of_caption: (M,) index of each caption's image, how many captions an image has, one number or (N,) counts, or
    a mapping of caption to image, or image to captions; may be left out where a file tells, or every image has M / N
    captions in a row.
    fold: images of each contiguous fold that is ranked on its own as well (1,000 for COCO 1K), 0 = none.

    Raises DataError, a ValueError: wrong shapes, NaN, counts that do not match, scores that may be transposed.
    """
    row = given if isinstance(given, Row) else _as_row(given)
    if not row.plain:
        return _evaluated_elsewhere(row, image_of_caption, fold)
    scores = row.matrix
    owners = places.owners(image_of_caption, len(scores), scores.shape[1], row.name)
    order = np.argsort(owners, kind="stable")  # folds cut captions in the order of their images
    i2t, t2i, tied = metrics.ranks(scores, owners)
    return Evaluation(
        row.name,
        i2t,
        t2i,
        tied,
        metrics.summary(i2t, t2i),
        _folds(scores[:, order], owners[order], fold) if fold else {},
        (),
        row.about,
    )


def _evaluated_elsewhere(row: Row, image_of_caption: Any, fold: int) -> Evaluation:
    """By the code of `--row`.  Raises DataError."""
    from harness.data.given import files
    from harness.measure import elsewhere  # imports torch
    from harness.measure.memory import available_bytes

    options = {name: value for name, value in (("scorer", row.scorer), ("axes", row.axes)) if value}
    if row.file:
        paths = [row.file] if isinstance(row.file, str | Path) else list(row.file)
        request = Request(row.name, tuple(map(Path, paths)), options)
        kind, arrays = files.opened(request, available_bytes("cpu") / 2)
        ignored = files.ignored(request)
    else:
        kind, ignored = "embeddings" if row.scores is None else "scores", ()
        names = ("scores", "scores_t2i", "images", "captions", "image_mask", "caption_mask")
        arrays = {name: np.asarray(value) for name in names if (value := getattr(row, name)) is not None}
        if not set(files.NEEDED[kind]) <= set(arrays):
            raise DataError(f"{row.name}: give scores, or images and captions")
    whole, notes = elsewhere.evaluate(row.name, kind, arrays, options, image_of_caption, fold)
    ranks = whole.ranks
    folds = (
        metrics.fold_summary(ranks.fold_i2t, ranks.fold_t2i, ranks.fold_of_image, ranks.fold_of_caption)
        if len(ranks.fold_i2t)
        else {}
    )
    found = metrics.summary(ranks.i2t, ranks.t2i)
    return Evaluation(row.name, ranks.i2t, ranks.t2i, whole.tied_queries, found, folds, (*notes, *ignored), row.about)


def _as_row(given: Any) -> Row:
    if isinstance(given, str | Path):
        return Row(Path(given).stem, file=given)
    return (
        Row("row", images=given[0], captions=given[1])
        if isinstance(given, tuple) and len(given) == 2
        else Row("row", scores=given)
    )


def _matrix(values: Any, what: str) -> np.ndarray:
    """(A, B) floating point, nowhere empty.  Raises DataError."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise DataError(f"{what} are no array: {error}") from None
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(f"{what} must be a matrix, got shape {array.shape}")
    if array.dtype.kind not in "fiu":
        raise DataError(f"{what} must be numbers, got {array.dtype}")
    if array.dtype.kind != "f" or array.dtype.itemsize < 4:
        array = array.astype(np.float64 if array.dtype.kind != "f" else np.float32)
    if bad := array.size - np.count_nonzero(np.isfinite(array)):
        raise DataError(f"{bad} of {array.size} {what} are not finite")
    return array


def _pair(one: Any, other: Any, first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of one width.  Raises DataError."""
    a, b = _matrix(one, first), _matrix(other, second)
    if a.shape[1] != b.shape[1]:
        raise DataError(f"{first} have shape {a.shape}, {second} {b.shape}: widths must be equal")
    return a, b


def _folds(scores: np.ndarray, owners: np.ndarray, size: int) -> dict[str, float]:
    """`metrics.summary` averaged over contiguous folds.  owners: ascending.  Raises DataError."""
    if size < 0 or len(scores) % size:
        raise DataError(f"fold must divide the {len(scores)} images, got {size}")
    found = []
    for images, captions in metrics.folds(owners, len(scores), size):
        i2t, t2i, _ = metrics.ranks(scores[images, captions], owners[captions] - images.start)
        found.append(metrics.summary(i2t, t2i))
    return {name: float(np.mean([fold[name] for fold in found])) for name in found[0]}


def search(gallery: ArrayLike, queries: ArrayLike, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The k items of highest inner product with each query, exactly: best first, equal ones by index.

    gallery: (N, d).  queries: (Q, d).  Returns ids (Q, k) int64 and scores (Q, k); all N where k is more.

    Raises DataError, a ValueError, for wrong shapes, widths that differ, NaN, and k below 1.
    """
    items, asked = _pair(gallery, queries, "gallery", "queries")
    if k < 1:
        raise DataError(f"k must be at least 1, got {k}")
    k = min(k, len(items))
    ids, best = np.empty((len(asked), k), np.int64), np.empty((len(asked), k), np.result_type(items, asked))
    for rows in metrics.blocks(len(asked), BLOCK_ROWS):
        scores = asked[rows] @ items.T
        ids[rows] = metrics.top(scores, k, axis=1)
        best[rows] = np.take_along_axis(scores, ids[rows], 1)
    return ids, best


def load(folder: Path | str) -> pd.DataFrame:
    """A results folder, a line for each run: label, family, seed, data, status, recalls in percent, times, key.

    end_to_end_ms is the median of one caption alone, read, encoded, scored against the gallery and ranked;
    score_rank_ms, encode_image_ms and encode_caption_ms are medians per item in batches; NaN where nothing was
    measured.  `status` is `ok`, or why a run does not count; such a run has no recalls.

    Raises RecordError, a ValueError, where the folder holds no records or one that cannot be trusted.
    """
    import pandas as pd

    from harness.report.read.runs import read

    return pd.DataFrame([_line(run) for run in read(Path(folder))])


def _line(run: Run) -> dict[str, Any]:
    from harness.report.read.times import BATCHED, query_time, stage_ms

    job, record = run.job, run.record
    return {
        "label": record.label,
        "family": record.family,
        "seed": run.seed,
        "data": job.data.name,
        "ranked": job.data.ranked,
        "status": run.problem or "ok",
        **({} if run.problem else run.accuracy),
        "parameters": record.parameters,
        "train_s": record.seconds.get("train"),
        "end_to_end_ms": time.ms if (time := query_time(run.cost)) else None,
        "score_rank_ms": stage_ms(run.cost, BATCHED, "queries"),
        "encode_image_ms": stage_ms(run.cost, ("encode_images",), "images"),
        "encode_caption_ms": stage_ms(run.cost, ("encode_texts",), "captions"),
        "index_bytes_per_image": None if run.cost is None else run.cost.index_bytes_per_image,
        "key": record.key,
    }


def run(
    job: Job | str,
    folder: Path | str,
    *,
    data: str = "scenes",
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
    again: bool = False,
) -> Record:
    """Trains and evaluates one job in this process, unless it is recorded in the folder already; its record.

    job: a label as `--list` shows it, of which data (embedded, or a folder), seed and changes (`{"settings.lr": 2e-4}`)
    make a job; or a whole `Job`.  again: also where it is recorded.

    Raises SpecError and DataError, both ValueErrors.  A job that fails is a record of status `failed`.
    """
    from harness.phases.train import execute  # imports torch

    store = Store(Path(folder))
    wanted = _job(job, data, seed, changes or {}) if isinstance(job, str) else job
    wanted = taken.resolved(wanted, store)
    known = None if again else store.finished(wanted.key)
    return known or execute(wanted, store)


def _job(label: str, data: str, seed: int, changes: Mapping[str, Any]) -> Job:
    """That of suite `full --untuned`, so that the command and Python share records.  Raises SpecError, DataError."""
    registry.model(label)  # says what is wrong with it
    opened, offers = sources.described(data)
    asked = suites.asked("full", opened, only=[label], seeds=[seed], changes=changes)
    found = needs.served(asked, offers)[0].jobs
    return next(job for job in found if job.model.label == label)
