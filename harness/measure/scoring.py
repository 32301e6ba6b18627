"""Every image against every caption, in blocks that fit a memory budget.

Captions come in groups of equal length, so nothing is padded and no work is done on padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.measure.metrics import blocks
from harness.progress import Progress, Watch, unwatched
from harness.protocol import Encoded, Retriever, concatenate

PAIR_ARRAYS = 8  # score-sized temporaries an interactive similarity may hold at once
CACHE_BYTES = 2**23  # blocks beyond this leave the processor's cache and get slower


@dataclass(frozen=True)
class Group:
    """Captions of one length."""

    rows: np.ndarray  # (m,) which captions
    encoded: Encoded


class ScoreError(ValueError):
    """A similarity that is not a finite (images, captions) matrix; names the method and the block."""


def all_pairs(
    model: Retriever, images: Encoded, groups: Sequence[Group], memory_mib: int, watch: Watch = unwatched
) -> np.ndarray:
    """Scores (N, M) float32, equal to scoring at once.  Raises ScoreError, also where there is nothing to score."""
    if not len(images) or not any(len(group.rows) for group in groups):
        raise ScoreError(f"{type(model).__name__}: nothing to score, there are no images or no captions")
    if model.family == "independent":
        groups = [_in_order(groups)]
    images = model.prepared(images)
    captions = sum(len(group.rows) for group in groups)
    scores = np.empty((len(images), captions), np.float32)
    done = 0
    for group in groups:
        image_block, caption_block = block_shape(model, images, group.encoded, memory_mib)
        for columns in blocks(len(group.rows), caption_block):
            texts = group.encoded.select(columns)
            for rows in blocks(len(images), image_block):
                block = _checked(model, images.select(rows), texts, rows)
                scores[rows, _as_slice(group.rows[columns])] = block.float().cpu().numpy()
            done += len(group.rows[columns])
            watch(Progress("score", done, captions))
    return scores


def _in_order(groups: Sequence[Group]) -> Group:
    """All captions as one group, in their own order: embeddings have no length."""
    rows = np.concatenate([group.rows for group in groups])
    order = torch.from_numpy(np.argsort(rows))
    return Group(np.arange(len(rows)), concatenate([group.encoded for group in groups]).select(order))


def _as_slice(rows: np.ndarray) -> np.ndarray | slice:
    """Consecutive rows as a slice, which writes without a scatter."""
    consecutive = len(rows) == rows[-1] - rows[0] + 1 and (np.diff(rows) == 1).all()
    return slice(int(rows[0]), int(rows[-1]) + 1) if consecutive else rows


def block_shape(model: Retriever, images: Encoded, texts: Encoded, memory_mib: int) -> tuple[int, int]:
    """Images and captions of one block.  Raises ScoreError where the budget does not hold a single pair."""
    if model.family == "independent" or images.mask is None or texts.mask is None:
        pair_bytes, wanted = 4, CACHE_BYTES
    else:
        pair_bytes = 4 * images.mask.shape[1] * texts.mask.shape[1] * PAIR_ARRAYS
        wanted = CACHE_BYTES * PAIR_ARRAYS // pair_bytes
    pairs = min(memory_mib * 2**20 // pair_bytes, max(wanted, 1))
    if pairs < 1:
        raise ScoreError(f"one image-caption pair needs {pair_bytes / 2**20:.1f} MiB, the budget is {memory_mib} MiB")
    image_block = min(len(images), max(1, round(pairs**0.5)))
    return image_block, max(1, pairs // image_block)


def _checked(model: Retriever, images: Encoded, texts: Encoded, rows: slice) -> Tensor:
    scores = model.similarity(images, texts)
    where = f"{type(model).__name__}, images {rows.start} to {rows.stop}"
    if scores.shape != (len(images), len(texts)):
        raise ScoreError(f"{where}: similarity has shape {tuple(scores.shape)}, expected {(len(images), len(texts))}")
    if not torch.isfinite(scores).all():
        raise ScoreError(f"{where}: {int((~torch.isfinite(scores)).sum())} of {scores.numel()} scores are not finite")
    return scores
