"""A split encoded once, scored in blocks, turned into per-query ranks; each stage timed apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from harness.data.prepared import Side, image_batch, text_batch
from harness.data.split import Images, Split
from harness.data.vocabulary import Tokens
from harness.jobs.spec import Settings
from harness.measure import metrics
from harness.measure.scoring import Group, all_pairs
from harness.precision import autocast
from harness.progress import Progress, Watch, unwatched
from harness.protocol import Encoded, Retriever, concatenate
from harness.record import Ranks

TOP = 10  # retrieved items kept per query
IMAGE_BATCH = 128
CAPTION_BATCH = 256

T = TypeVar("T")


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a split found."""

    ranks: Ranks
    tied_queries: int
    seconds: dict[str, float]


def encode_images(model: Retriever, images: Images, settings: Settings, watch: Watch = unwatched) -> Encoded:
    """All images, as an index would keep them."""
    parts = []
    for rows in metrics.blocks(len(images), IMAGE_BATCH):
        with autocast(settings):
            parts.append(model.indexed(model.encode_images(image_batch(images, rows).to(settings.device))))
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
                batch = text_batch(captions, rows[members[part]]).to(settings.device)
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


def scores(
    model: Retriever, side: Side, settings: Settings, watch: Watch = unwatched
) -> tuple[np.ndarray, dict[str, float]]:
    """The (N, M) matrix of a split and the seconds each stage took."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            images, images_s = timed(lambda: in_float32(encode_images(model, side.split.images, settings, watch)))
            groups, texts_s = timed(
                lambda: [replace(g, encoded=in_float32(g.encoded)) for g in encode_texts(model, side.tokens, settings)]
            )
            matrix, score_s = timed(lambda: all_pairs(model, images, groups, settings.score_memory_mib, watch))
    finally:
        model.train(was_training)
    return matrix, {"encode_images": images_s, "encode_texts": texts_s, "score": score_s}


def rsum(model: Retriever, side: Side, settings: Settings) -> float:
    """Sum of six recalls over a split, in percent."""
    matrix, _ = scores(model, side, settings)
    i2t, t2i, _ = metrics.ranks(matrix, side.split.caption_to_image)
    return metrics.summary(i2t, t2i)["rsum"]


def evaluate(
    model: Retriever,
    side: Side,
    settings: Settings,
    watch: Watch = unwatched,
    keep: Callable[[np.ndarray], None] | None = None,
) -> Evaluation:
    """Ranks of every query of a split, in the whole gallery and within folds.  `keep` gets the (N, M) scores."""
    matrix, seconds = scores(model, side, settings, watch)
    if keep is not None:
        keep(matrix)
    (ranks, tied), rank_s = timed(lambda: rank(matrix, side.split))
    return Evaluation(ranks, tied, seconds | {"rank": rank_s})


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
        ),
        tied,
    )


def _fold_ranks(matrix: np.ndarray, split: Split) -> dict[str, np.ndarray]:
    """Ranks within contiguous folds: index views of the one matrix."""
    found: dict[str, list[np.ndarray]] = {"fold_i2t": [], "fold_t2i": [], "fold_of_image": [], "fold_of_caption": []}
    size = split.fold_images
    for fold, images in enumerate(metrics.blocks(len(split.images), size) if size else ()):
        captions = slice(*np.searchsorted(split.caption_to_image, [images.start, images.stop]))
        i2t, t2i, _ = metrics.ranks(matrix[images, captions], split.caption_to_image[captions] - images.start)
        found["fold_i2t"].append(i2t)
        found["fold_t2i"].append(t2i)
        found["fold_of_image"].append(np.full(len(i2t), fold, np.int32))
        found["fold_of_caption"].append(np.full(len(t2i), fold, np.int32))
    return {name: np.concatenate([np.empty(0, np.int32), *parts]) for name, parts in found.items()}


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """The result and how long it took, with the device's queue emptied on both sides."""
    synchronise()
    start = time.perf_counter()
    result = call()
    synchronise()
    return result, time.perf_counter() - start


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
