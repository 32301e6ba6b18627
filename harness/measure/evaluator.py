"""A split encoded once, scored in blocks, turned into per-query ranks; each stage timed apart.

Scores are ranked block by block as they are computed (`ranking`), whatever the family: memory does not grow with
N x M.  The matrix is there as a whole where somebody wants to keep it, and of the quick scores of a model in two
stages, whose shortlists are cut from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from harness.data.prepared import Side, image_batch, text_batch
from harness.data.split import Images, Split
from harness.data.vocabulary import Tokens
from harness.measure import metrics
from harness.measure.clock import timed
from harness.measure.ranking import Ranked, Stream, stream
from harness.measure.scoring import Group, all_pairs, in_order
from harness.measure.shortlist import both_ways
from harness.precision import autocast, score_products
from harness.progress import Progress, Watch, unwatched
from harness.protocol import Encoded, Retriever, Staged, concatenate
from harness.record import Exact, Ranks, Shortlisted
from harness.spec.job import Settings

TOP = 10  # retrieved items kept per query
IMAGE_BATCH = 128
CAPTION_BATCH = 256


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a split found."""

    ranks: Ranks
    tied_queries: int
    seconds: dict[str, float]
    fp32: Exact | None = None  # what float32 would have found, where scores were computed in less
    shortlist: Shortlisted | None = None  # of a row in two stages


def encode_images(model: Retriever, images: Images, settings: Settings, watch: Watch = unwatched) -> Encoded:
    """All images, as an index would keep them."""
    parts = []
    for rows in metrics.blocks(len(images), IMAGE_BATCH):
        with autocast(settings):
            parts.append(model.indexed(model.encode_images(image_batch(images, rows, model.needs).to(settings.device))))
        watch(Progress("encode", rows.stop, len(images)))
    return concatenate(parts)


def encode_texts(model: Retriever, captions: Tokens, settings: Settings, rows: np.ndarray | None = None) -> list[Group]:
    """Captions (all, or those `rows` names) in groups of equal length: nothing is padded."""
    rows = np.arange(len(captions.lengths)) if rows is None else rows
    groups = []
    for length in np.unique(captions.lengths[rows]):
        members = np.flatnonzero(captions.lengths[rows] == length)  # positions within `rows`
        parts = []
        for part in metrics.blocks(len(members), CAPTION_BATCH):
            with autocast(settings):
                batch = text_batch(captions, rows[members[part]], model.needs).to(settings.device)
                parts.append(model.indexed(model.encode_texts(batch)))
        groups.append(Group(members, concatenate(parts)))
    return groups


def in_float32(encoded: Encoded) -> Encoded:
    """Scores are computed in float32 whatever the encoders ran in."""

    def cast(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return tensor.float() if tensor is not None and tensor.is_floating_point() else tensor

    return replace(
        encoded,
        embedding=cast(encoded.embedding),
        fragments=cast(encoded.fragments),
        contextual=cast(encoded.contextual),
        shared=cast(encoded.shared),
        extras={
            name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in encoded.extras.items()
        },
    )


@contextmanager
def evaluating(model: Retriever) -> Iterator[None]:
    """The model in evaluation mode and no gradients; afterwards it is in the mode it came in."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def encoded(
    model: Retriever, side: Side, settings: Settings, watch: Watch = unwatched
) -> tuple[Encoded, list[Group], dict[str, float]]:
    """Both sides of a split in float32 and the seconds each took; inside `evaluating`."""
    images, images_s = timed(
        lambda: in_float32(encode_images(model, side.split.images, settings, watch)), settings.device
    )
    groups, texts_s = timed(
        lambda: [replace(g, encoded=in_float32(g.encoded)) for g in encode_texts(model, side.tokens, settings)],
        settings.device,
    )
    return images, groups, {"encode_images": images_s, "encode_texts": texts_s}


def scores(
    model: Retriever, side: Side, settings: Settings, watch: Watch = unwatched
) -> tuple[np.ndarray, dict[str, float]]:
    """The (N, M) matrix of a split and the seconds each stage took."""
    with evaluating(model):
        images, groups, seconds = encoded(model, side, settings, watch)
        with score_products(settings, model.family):
            matrix, score_s = timed(
                lambda: all_pairs(model, images, groups, settings.score_memory_mib, watch), settings.device
            )
    return matrix, seconds | {"score": score_s}


def rsum(model: Retriever, side: Side, settings: Settings) -> float:
    """Sum of six recalls over a split, in percent; scored in float32, whatever the test is scored in."""
    found, _ = retrieved(model, side, replace(settings, score_precision="fp32"), k=0)
    return metrics.summary(found.i2t, found.t2i)["rsum"]


def evaluate(
    model: Retriever,
    side: Side,
    settings: Settings,
    watch: Watch = unwatched,
    keep: Callable[[np.ndarray], None] | None = None,
    streamed: Stream = stream,
) -> Evaluation:
    """Ranks of every query of a split, in the whole gallery and within folds.

    keep: gets the (N, M) scores.  streamed: ranks what nobody keeps, such as `harness.schedule.shards` does.
    """
    if isinstance(model, Staged):
        return _staged(model, side, settings, watch)
    if keep is None:
        found, seconds = retrieved(model, side, settings, TOP, watch, streamed)
        ranks, tied = _as_ranks(found, side.split), found.tied_queries
    else:
        matrix, seconds = scores(model, side, settings, watch)
        keep(matrix)
        (ranks, tied), rank_s = timed(lambda: rank(matrix, side.split), "cpu")
        seconds |= {"rank": rank_s}
    fp32 = None
    if settings.score_precision != "fp32" and model.family == "interactive":
        exact, _ = retrieved(model, side, replace(settings, score_precision="fp32"), 0, watch, streamed)
        fp32 = _beside(ranks, exact)
    return Evaluation(ranks, tied, seconds, fp32)


def _beside(ranks: Ranks, exact: Ranked) -> Exact:
    """Rsum and ties of other ranks of the same queries, and the shares of queries whose rank is another."""
    return {
        "rsum": metrics.summary(exact.i2t, exact.t2i)["rsum"],
        "tied_queries": exact.tied_queries,
        "changed_i2t": float((ranks.i2t != exact.i2t).mean()),
        "changed_t2i": float((ranks.t2i != exact.t2i).mean()),
    }


def retrieved(
    model: Retriever, side: Side, settings: Settings, k: int, watch: Watch = unwatched, streamed: Stream = stream
) -> tuple[Ranked, dict[str, float]]:
    """What a model finds without a matrix, the first k of every query among it, and the seconds of each stage."""
    split = side.split
    with evaluating(model):
        images, groups, seconds = encoded(model, side, settings, watch)
        with score_products(settings, model.family):
            found = streamed(
                model, images, groups, split.caption_to_image, settings.score_memory_mib, k, split.fold_images, watch
            )
    return found, seconds | found.seconds


def _staged(model: Staged, side: Side, settings: Settings, watch: Watch) -> Evaluation:
    """Both directions in two stages, each with its own shortlists; within folds, of the fold alone."""
    split, owner = side.split, side.split.caption_to_image
    with evaluating(model):
        images, groups, seconds = encoded(model, side, settings, watch)
        texts = in_order(groups).encoded
        quick, quick_s = timed(
            lambda: all_pairs(model, images, groups, settings.score_memory_mib, watch, score=model.first),
            settings.device,
        )
        (i2t, t2i), close_s = timed(lambda: both_ways(model, images, texts, quick, owner, TOP, watch), settings.device)
        within: dict[str, list[np.ndarray]] = {"fold_i2t": [], "fold_t2i": []}
        for rows, columns in metrics.folds(owner, len(split.images), split.fold_images):
            part = images.select(rows), texts.select(columns), quick[rows, columns], owner[columns] - rows.start
            for name, way in zip(within, both_ways(model, *part), strict=True):
                within[name].append(way.ranks)
    ranks = Ranks(
        i2t=i2t.ranks,
        t2i=t2i.ranks,
        i2t_top=i2t.top,
        t2i_top=t2i.top,
        groups=dict(split.groups),
        **{name: np.concatenate([np.empty(0, np.int32), *parts]) for name, parts in within.items()},
        **fold_places(split),
        caption_to_image=owner.astype(np.int32),
    )
    k_i2t, k_t2i = model.shortlist
    told: Shortlisted = {
        "k_i2t": k_i2t,
        "k_t2i": k_t2i,
        "i2t_ceiling": i2t.ceiling(k_i2t),
        "t2i_ceiling": t2i.ceiling(k_t2i),
    }
    tied = int(i2t.tied.sum() + t2i.tied.sum())
    return Evaluation(ranks, tied, seconds | {"score": quick_s + close_s, "rank": 0.0}, shortlist=told)


def _as_ranks(found: Ranked, split: Split) -> Ranks:
    return Ranks(
        i2t=found.i2t,
        t2i=found.t2i,
        i2t_top=found.i2t_top,
        t2i_top=found.t2i_top,
        groups=dict(split.groups),
        fold_i2t=found.fold_i2t,
        fold_t2i=found.fold_t2i,
        **fold_places(split),
        caption_to_image=split.caption_to_image.astype(np.int32),
    )


def rank(matrix: np.ndarray, split: Split) -> tuple[Ranks, int]:
    """Ranks of a whole score matrix (N, M), and how many queries tie."""
    i2t, t2i, tied = metrics.ranks(matrix, split.caption_to_image)
    return (
        Ranks(
            i2t=i2t,
            t2i=t2i,
            i2t_top=metrics.top(matrix, TOP, axis=1),
            t2i_top=metrics.top(matrix, TOP, axis=0),
            groups=dict(split.groups),
            **_fold_ranks(matrix, split),
            **fold_places(split),
            caption_to_image=split.caption_to_image.astype(np.int32),
        ),
        tied,
    )


def _fold_ranks(matrix: np.ndarray, split: Split) -> dict[str, np.ndarray]:
    """Ranks within contiguous folds: index views of the one matrix."""
    found: dict[str, list[np.ndarray]] = {"fold_i2t": [], "fold_t2i": []}
    for images, captions in metrics.folds(split.caption_to_image, len(split.images), split.fold_images):
        i2t, t2i, _ = metrics.ranks(matrix[images, captions], split.caption_to_image[captions] - images.start)
        found["fold_i2t"].append(i2t)
        found["fold_t2i"].append(t2i)
    return {name: np.concatenate([np.empty(0, np.int32), *parts]) for name, parts in found.items()}


def fold_places(split: Split) -> dict[str, np.ndarray]:
    """Which fold every image and every caption is in."""
    size = split.fold_images
    places = {"fold_of_image": np.arange(len(split.images)), "fold_of_caption": split.caption_to_image}
    return {name: (p // size if size else np.empty(0)).astype(np.int32) for name, p in places.items()}
