"""One text query as its user waits for it: a caption read and encoded, a gallery scored, the best put in order.

What depends on the gallery alone is made ready before any query: an exact index of embeddings, or what `prepared` of an
interactive model computes of its images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.data.prepared import Side
from harness.measure.clock import laps
from harness.measure.evaluator import in_float32
from harness.measure.exact import ExactIndex, top_k
from harness.measure.metrics import blocks
from harness.measure.scoring import block_shape
from harness.measure.shortlist import searched
from harness.precision import autocast, score_products
from harness.protocol import Encoded, Retriever, Staged
from harness.spec.job import Settings

STAGES = ("encode", "search", "rank")
TOP = 10  # images a query asks for


@dataclass(frozen=True)
class Search:
    """A gallery made ready."""

    scores: Callable[[Encoded], Any]  # one encoded caption -> (N,) scores
    best: Callable[[Any], np.ndarray]  # those scores -> the TOP best images, best first
    read: Callable[[], float] | None = None  # reads the gallery once, where a query does little else


def ready(model: Retriever, gallery: Encoded, settings: Settings) -> Search:
    """A gallery (N images) as single captions are searched for in it."""
    if model.family == "independent" and not settings.device.startswith("cuda"):
        index = ExactIndex(gallery, settings.threads)
        return Search(index.scores, lambda scores: top_k(scores, TOP), index.read)
    images = prepared(model, gallery, settings)
    score = model.first if isinstance(model, Staged) else model.similarity

    def scores(text: Encoded) -> torch.Tensor:
        size, _ = block_shape(model, images, text, settings.score_memory_mib)
        with score_products(settings, model.family):
            parts = [score(images.select(rows), text)[:, 0] for rows in blocks(len(images), size)]
            found = torch.cat(parts).float()
            if isinstance(model, Staged):
                found = torch.from_numpy(searched(model, images, text, found[:, None].cpu().numpy())[:, 0])
        return found

    return Search(scores, _best)


def prepared(model: Retriever, images: Encoded, settings: Settings) -> Encoded:
    """Images with what scores read of them alone, in the precision that scores are computed in."""
    with torch.inference_mode(), score_products(settings, model.family):
        return model.prepared(images)


def _best(scores: torch.Tensor) -> np.ndarray:
    if scores.device.type == "cpu":
        return top_k(scores.numpy(), TOP)
    return scores.topk(min(TOP, len(scores))).indices.cpu().numpy()


def encoder(model: Retriever, side: Side, settings: Settings) -> Callable[[int], Encoded]:
    """The number of a caption -> the caption read and encoded anew, alone; inside `evaluating`.

    Nothing is padded, grouped or joined as batches are.
    """

    def encode(caption: int) -> Encoded:
        text = side.query(caption, model.needs)
        if settings.device != "cpu":
            text = text.to(settings.device)
        if settings.precision == "fp32":
            return model.indexed(model.encode_texts(text))
        with autocast(settings):
            encoded = model.indexed(model.encode_texts(text))
        return in_float32(encoded)

    return encode


def stages_ms(
    encode: Callable[[int], Encoded], search: Search, caption: int, device: str
) -> tuple[np.ndarray, dict[str, float]]:
    """The TOP best images for a caption, and the milliseconds of each of STAGES, which add up to the whole query."""
    best, seconds = laps(caption, (encode, search.scores, search.best), device)
    return best, {stage: round(1000 * lap, 5) for stage, lap in zip(STAGES, seconds, strict=True)}


def index_bytes(encoded: Encoded) -> int:
    """Bytes an index keeps of encoded items in float32; the mask of items without padding is free."""
    return sum(t.numel() * t.element_size() for t in encoded.tensors().values() if t.is_floating_point())
