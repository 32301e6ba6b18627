"""Three pairs that every interactive method must bear, and each of their scores alone.

One image has a single region, one caption a single word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, Retriever, TextBatch

INPUTS = Inputs(image_dim=13, regions=5, vocabulary=17, dim=11, word_dim=7)
REGIONS, WORDS = (5, 1, 3), (2, 7, 1)  # of the three


def mask_of(lengths: Sequence[int], width: int) -> Tensor:
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def batch(width: int = 7, dtype: torch.dtype = torch.float32) -> PairBatch:
    """The three pairs, captions padded to `width` words."""
    generator = torch.Generator().manual_seed(0)
    regions = torch.randn(3, 5, 13, generator=generator, dtype=dtype)
    tokens = torch.randint(1, 17, (3, 7), generator=generator)
    words = mask_of(WORDS, 7)
    return PairBatch(
        ImageBatch(regions, mask_of(REGIONS, 5)),
        TextBatch(F.pad(tokens * words, (0, width - 7)), F.pad(words, (0, width - 7))),
        image_index=torch.arange(3),
    )


def encoded(model: Retriever, pairs: PairBatch) -> tuple[Encoded, Encoded]:
    """Images and captions as the model encodes them."""
    return model.encode_images(pairs.images), model.encode_texts(pairs.texts)


def fragments(side: Encoded, item: int) -> Tensor:
    """(n, d), the real ones of an item."""
    return side.contextual[item][side.mask[item]]


def each_alone(images: Encoded, texts: Encoded, score: Callable[..., float], *how: Any) -> Tensor:
    """(3, 3), from the regions (R, d) and words (L, d) of one pair after the other; how: what else the score takes."""
    return torch.tensor([[score(fragments(images, i), fragments(texts, j), *how) for j in range(3)] for i in range(3)])
