"""The harness from Python: scores or embeddings to metrics, exact search, stored results as a table, one job run.

scores = images @ captions.T                    # (N, M), higher is more alike
evaluate(scores, image_of_caption).metrics["rsum"]
load("results/full-scenes").groupby("label")["rsum"].mean()
run("vsepp+selfalign", "results/mine", data="features/mine", changes={"settings.epochs": 3})
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from harness.data import sources
from harness.data.split import DataError
from harness.measure import metrics
from harness.record import Record, Store
from harness.spec import needs, registry, suites
from harness.spec.job import Job

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
    about: Mapping[str, Any] = field(default_factory=dict)


def evaluate(
    given: ArrayLike | tuple[ArrayLike, ArrayLike] | Row, image_of_caption: ArrayLike | None = None, *, fold: int = 0
) -> Evaluation:
    """Ranks and recalls of N images and M captions.

    given: (N, M) scores, higher = more alike; or a pair of embeddings (N, d) and (M, d), scored by inner products as
    they are; or a `Row` of either.
    image_of_caption: (M,) index of each caption's image; may be left out where every image has M / N captions in a row.
    fold: images of each contiguous fold that is ranked on its own as well (1,000 for COCO 1K), 0 = none.

    Raises DataError, a ValueError: wrong shapes, NaN, counts that do not match, scores that may be transposed.
    """
    row = given if isinstance(given, Row) else _as_row(given)
    scores = row.matrix
    owners = _owners(scores.shape, image_of_caption, row.name)
    order = np.argsort(owners, kind="stable")  # folds cut captions in the order of their images
    i2t, t2i, tied = metrics.ranks(scores, owners)
    return Evaluation(
        row.name,
        i2t,
        t2i,
        tied,
        metrics.summary(i2t, t2i),
        _folds(scores[:, order], owners[order], fold) if fold else {},
        row.about,
    )


def _as_row(given: Any) -> Row:
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


def _owners(shape: tuple[int, ...], given: ArrayLike | None, name: str) -> np.ndarray:
    """(M,) int64 image of each caption.  Raises DataError."""
    images, captions = shape
    if given is None:
        if captions % images:
            turned = ", are they transposed?" if images % captions == 0 else ""
            raise DataError(f"{name}: {captions} captions do not spread evenly over {images} images{turned}")
        return np.repeat(np.arange(images), captions // images)
    owners = np.asarray(given)
    if owners.ndim != 1 or owners.dtype.kind not in "iu":
        raise DataError(
            f"{name}: image_of_caption must be whole numbers, one a caption, got {owners.dtype} of shape {owners.shape}"
        )
    if len(owners) != captions:
        turned = ", are the scores transposed?" if len(owners) == images else ""
        raise DataError(f"{name}: {captions} captions but {len(owners)} image indices{turned}")
    if owners.min() < 0 or owners.max() >= images:
        raise DataError(f"{name}: image indices must be 0 to {images - 1}, got {owners.min()} to {owners.max()}")
    if missing := images - len(np.unique(owners)):
        raise DataError(f"{name}: {missing} of {images} images have no caption")
    return owners.astype(np.int64)


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

    score_rank_ms, encode_image_ms and encode_caption_ms are medians per item of the timing phase; NaN where nothing
    was measured.  `status` is `ok`, or why a run does not count; such a run has no recalls.

    Raises RecordError, a ValueError, where the folder holds no records or one that cannot be trusted.
    """
    import pandas as pd

    from harness.report.read.runs import read

    return pd.DataFrame([_line(run) for run in read(Path(folder))])


def _line(run: Run) -> dict[str, Any]:
    from harness.report.tables.comparison import QUERY_STAGES, stage_ms

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
        "score_rank_ms": stage_ms(run.cost, QUERY_STAGES, "queries"),
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

    wanted = _job(job, data, seed, changes or {}) if isinstance(job, str) else job
    store = Store(Path(folder))
    known = None if again else store.finished(wanted.key)
    return known or execute(wanted, store)


def _job(label: str, data: str, seed: int, changes: Mapping[str, Any]) -> Job:
    """That of suite `full`, so that the command and Python share records.  Raises SpecError, DataError."""
    registry.model(label)  # says what is wrong with it
    opened, offers = sources.described(data)
    asked = suites.asked("full", opened, only=[label], seeds=[seed], changes=changes)
    found = needs.served(asked, offers)[0].jobs
    return next(job for job in found if job.model.label == label)
