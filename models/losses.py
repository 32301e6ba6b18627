"""Ranking losses on a square block of scores whose diagonal holds the matching pairs."""

from __future__ import annotations

import torch
from torch import Tensor


def hinge(scores: Tensor, margin: float = 0.2, hardest: bool = True, impostors: Tensor | None = None) -> Tensor:
    """Bidirectional hinge, summed over the batch (VSE++, Faghri et al. 2018, eq. 5 and 6).

    scores: (B, B), images x captions, matching pairs on the diagonal.  impostors: (B, B) bool, True where a pair may
    serve as a negative; None = everything off the diagonal.  `hardest` takes the worst negative per query, else all are
    summed.  Returns ().  A batch of one pair has no negatives and costs 0.
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
        raise ValueError(f"hinge needs a square block of scores, got {tuple(scores.shape)}")
    allowed = negatives(scores, impostors)
    matched = scores.diagonal()
    captions = (margin + scores - matched[:, None]).clamp(min=0) * allowed  # (B, B) image i against wrong captions
    images = (margin + scores - matched[None, :]).clamp(min=0) * allowed  # (B, B) caption j against wrong images
    if hardest:
        return captions.amax(1).sum() + images.amax(0).sum()
    return captions.sum() + images.sum()


def negatives(scores: Tensor, impostors: Tensor | None = None) -> Tensor:
    """(B, B) bool, True where a pair may serve as a negative: not a matching one, and an impostor if named."""
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    return ~own if impostors is None else impostors & ~own


def other_image(image_index: Tensor) -> Tensor:
    """(B, B) bool, True where two pairs of a batch show different images.  image_index: (B,), or subjects."""
    return image_index[:, None] != image_index[None, :]
