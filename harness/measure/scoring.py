"""Every image against every caption, in blocks that fit a memory budget.

Captions come in groups of equal length, so nothing is padded and no work is done on padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.measure.metrics import blocks
from harness.progress import Progress, Watch, unwatched
from harness.protocol import Encoded, Retriever, concatenate

PAIR_ARRAYS = 8  # score-sized temporaries an interactive similarity may hold at once
CACHE_BYTES = 2**23  # blocks beyond this leave the processor's cache and get slower
NAMED = 3  # captions of a block that a message lists, where they do not follow one another


@dataclass(frozen=True)
class Group:
    """Captions of one length."""

    rows: np.ndarray  # (m,) which captions, ascending
    encoded: Encoded


class ScoreError(ValueError):
    """A similarity that is not a finite (images, captions) matrix; names the method and the block."""


def all_pairs(
    model: Retriever,
    images: Encoded,
    groups: Sequence[Group],
    memory_mib: int,
    watch: Watch = unwatched,
    score: Callable[[Encoded, Encoded], Tensor] | None = None,
) -> np.ndarray:
    """Scores (N, M) float32, equal to scoring at once.  Raises ScoreError, also where there is nothing to score.

    score: in place of the model's own similarity, such as the quick one of a model in two stages.
    """
    images, groups = prepared(model, images, groups)
    captions = sum(len(group.rows) for group in groups)
    scores = np.empty((len(images), captions), np.float32)
    done = 0
    for group in groups:
        image_block, caption_block = block_shape(model, images, group.encoded, memory_mib)
        for columns in blocks(len(group.rows), caption_block):
            texts, captions_of_block = group.encoded.select(columns), group.rows[columns]
            for rows in blocks(len(images), image_block):
                block = score_block(model, images.select(rows), texts, rows, captions_of_block, score)
                scores[rows, as_slice(captions_of_block)] = block
            done += len(captions_of_block)
            watch(Progress("score", done, captions))
    return scores


def prepared(model: Retriever, images: Encoded, groups: Sequence[Group]) -> tuple[Encoded, Sequence[Group]]:
    """Both sides as they are scored.  Raises ScoreError where there is nothing to score."""
    if not len(images) or not any(len(group.rows) for group in groups):
        raise ScoreError(f"{type(model).__name__}: nothing to score, there are no images or no captions")
    return model.prepared(images), [in_order(groups)] if model.family == "independent" else groups


def in_order(groups: Sequence[Group]) -> Group:
    """All captions as one group, in their own order: embeddings have no length."""
    rows = np.concatenate([group.rows for group in groups])
    order = torch.from_numpy(np.argsort(rows))
    return Group(np.arange(len(rows)), concatenate([group.encoded for group in groups]).select(order))


def _consecutive(rows: np.ndarray) -> bool:
    return len(rows) == rows[-1] - rows[0] + 1 and bool((np.diff(rows) == 1).all())


def as_slice(rows: np.ndarray) -> np.ndarray | slice:
    """Consecutive rows as a slice, which writes without a scatter."""
    return slice(int(rows[0]), int(rows[-1]) + 1) if _consecutive(rows) else rows


def block_shape(model: Retriever, images: Encoded, texts: Encoded, memory_mib: int) -> tuple[int, int]:
    """Images and captions of one block, about square where both sides have enough.

    Raises ScoreError where the budget does not hold a single pair.
    """
    if model.family == "independent" or images.mask is None or texts.mask is None:
        pair_bytes, wanted = 4, CACHE_BYTES
    else:
        pair_bytes = 4 * images.mask.shape[1] * texts.mask.shape[1] * PAIR_ARRAYS
        wanted = math.inf if images.mask.is_cuda else CACHE_BYTES * PAIR_ARRAYS // pair_bytes
    pairs = int(min(memory_mib * 2**20 // pair_bytes, max(wanted, 1)))
    if pairs < 1:
        least = math.ceil(pair_bytes / 2**20)
        raise ScoreError(
            f"one image-caption pair needs {pair_bytes / 2**20:.1f} MiB, the budget is {memory_mib} MiB: "
            f"--score-memory {least} at least"
        )
    image_block = min(len(images), max(1, round(pairs**0.5), pairs // max(1, len(texts))))
    return image_block, max(1, pairs // image_block)


def score_block(
    model: Retriever,
    images: Encoded,
    texts: Encoded,
    rows: slice,
    captions: np.ndarray,
    score: Callable[[Encoded, Encoded], Tensor] | None = None,
) -> np.ndarray:
    """Scores of some images and some captions, float32.  rows, captions: which they are, for the message.

    Raises ScoreError where they are no finite (images, captions) matrix.
    """
    found = (score or model.similarity)(images, texts)
    if found.shape != (len(images), len(texts)):
        where = _named(model, rows, captions)
        raise ScoreError(f"{where}: similarity has shape {tuple(found.shape)}, expected {(len(images), len(texts))}")
    scores = found.float().cpu().numpy()
    if not (finite := np.isfinite(scores)).all():
        bad = scores.size - np.count_nonzero(finite)
        raise ScoreError(f"{_named(model, rows, captions)}: {bad} of {scores.size} scores are not finite")
    return scores


def _named(model: Retriever, rows: slice, captions: np.ndarray) -> str:
    """`SCAN, images 0 to 11, captions 0, 4, 5 and 9 more`."""
    if _consecutive(captions):
        which = f"{captions[0]} to {captions[-1] + 1}"
    else:
        which = ", ".join(map(str, captions[:NAMED])) + (
            f" and {len(captions) - NAMED} more" if len(captions) > NAMED else ""
        )
    return f"{type(model).__name__}, images {rows.start} to {rows.stop}, captions {which}"
