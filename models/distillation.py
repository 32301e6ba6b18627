"""What one matrix of scores can teach another: the losses of `distilled`, as pure functions of two blocks.

Blocks are (B, B), images x captions, matching pairs on the diagonal.  The teacher's is never learned from; a student's
may be of any scale that its options say.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.losses import negatives

SHARPEST = 1e4  # largest factor on standardised scores: beyond it nothing but ties is left
STEPS = 40  # steps towards that factor at most; where each only halved the range of its logarithm: 18.4 / 2^40
NEAR = 1e-6  # of a step that may be the last, on the logarithm


def calibrated(scores: Tensor, share: float, sides: str = "both") -> Tensor:
    """Scores times the one factor at which the targets they make have a stated mean entropy.

    Teachers have scales of their own (cosines, their sums, logits); softmax of them would be anything from one-hot to
    uniform.  scores: (B, B).  share: of log(B), above 0 and below 1; the mean is over the rows and columns that `sides`
    names.  A block that cannot get there (all alike, or ties at the top) comes back as near as it can.  Same shape.
    """
    standard = scores - scores.mean()
    spread = standard.square().mean().sqrt()
    standard = standard / torch.where(spread > 0, spread, 1.0)
    blocks = torch.stack(faces(standard, sides))
    wanted = share * math.log(len(scores))
    low, high = -math.log(SHARPEST), math.log(SHARPEST)
    place = 0.0
    for _ in range(STEPS):
        found, slope = (term.item() for term in entropy_and_slope(blocks * math.exp(place)))
        low, high = (place, high) if found > wanted else (low, place)
        step = place - (found - wanted) / slope if slope < 0 else math.inf
        last, place = place, step if low < step < high else (low + high) / 2
        if abs(place - last) < NEAR:
            break
    return standard * math.exp(place)


def entropy_and_slope(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean entropy of softmax over the last axis, in nats, and its derivative by the logarithm of a factor on them:
    minus the mean variance of logits under their softmax.  (..., C) -> two of ()."""
    logs = logits.log_softmax(-1)
    weighted = logs.exp() * logs
    own = -weighted.sum(-1)  # (...)
    return own.mean(), (own.square() - (weighted * logs).sum(-1)).mean()


def faces(block: Tensor, sides: str) -> list[Tensor]:
    """A block by its queries: `rows` are images, `columns` captions, `both` one after the other."""
    return {"rows": [block], "columns": [block.T], "both": [block, block.T]}[sides]


def listwise(student: Tensor, teacher: Tensor, sides: str = "both") -> Tensor:
    """Cross-entropy of softmax(student) against softmax(teacher), mean over queries, sides added (ALADIN's listnet;
    Cao et al., ICML 2007).  Both: (B, B) logits.  Returns ()."""
    pairs = zip(faces(student, sides), faces(teacher, sides), strict=True)
    return torch.stack([-(t.softmax(1) * s.log_softmax(1)).sum(1).mean() for s, t in pairs]).sum()


def squared(student: Tensor, teacher: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Mean of (scale x student + shift - teacher)^2; scale and shift () are learned.  Returns ()."""
    return (scale * student + shift - teacher).square().mean()


def ordinal(student: Tensor, teacher: Tensor, margin: float, stride: int, sides: str = "both") -> Tensor:
    """Hinge that keeps the teacher's order: an item scores `margin` above the one `stride` places behind it.

    Only items that the teacher puts above its mean are kept in order: the rest is noise (ALADIN takes a threshold on
    its own scale).  Mean over the pairs of places, sides added.  Returns (); 0 where no pair is left.
    """
    terms = []
    for s, t in zip(faces(student, sides), faces(teacher, sides), strict=True):
        order = t.argsort(stable=True, dim=1, descending=True)
        placed, apart = s.gather(1, order), min(stride, len(s))
        counts = (t.gather(1, order) > t.mean())[:, apart:]
        cost = (margin - (placed[:, : len(s) - apart] - placed[:, apart:])).clamp(min=0)
        terms.append((cost * counts).sum() / counts.sum().clamp(min=1))
    return torch.stack(terms).sum()


def contrastive(student: Tensor, teacher: Tensor, margin: float, impostors: Tensor | None, sides: str) -> Tensor:
    """Hinge of the student against the negative that the teacher finds hardest, summed as the host's own hinge is.

    impostors: (B, B) bool, symmetric, True where a pair may serve as a negative; None = all off the diagonal.
    """
    allowed = negatives(teacher, impostors)
    terms = []
    for s, t in zip(faces(student, sides), faces(teacher, sides), strict=True):
        hardest = t.masked_fill(~allowed, float("-inf")).argmax(1, keepdim=True)  # (B, 1)
        cost = (margin + s.gather(1, hardest)[:, 0] - s.diagonal()).clamp(min=0)
        terms.append((cost * allowed.any(1)).sum())
    return torch.stack(terms).sum()


def shuffled(scores: Tensor, seed: int) -> Tensor:
    """The block with all that lies off its diagonal in another order, drawn from `seed`.  Same shape."""
    off = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    values = scores[off]
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed)).to(scores.device)
    mixed = scores.clone()
    mixed[off] = values[order]
    return mixed


def max_regions_sum_words(regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
    """Alignment scores of ALADIN's first head: each word its best region's cosine, summed over words.

    regions: (X, R, d), words: (Y, L, d), unit rows; masks (X, R), (Y, L) bool: padding is no region and no word, where
    the official code gives the maximum a floor of zero.  Returns (X, Y).
    """
    cosines = torch.einsum("xrd,yld->xyrl", regions, words)  # (X, Y, R, L)
    best = cosines.masked_fill(~region_mask[:, None, :, None], float("-inf")).amax(2)  # (X, Y, L)
    return (best * word_mask[None]).sum(2)
