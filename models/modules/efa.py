"""EFA (from FMFA): words gather the regions they fit, then words and regions find what their own pair gathered.

Explicit fine-grained alignment, a training-only module for hosts that show `fragments` on both sides: words and
regions in one space, before context and pooling, as SelfAlign's concept level reads them.

Departs from FMFA's code: fragments are brought to unit length first; padding has no part in anything; a word whose
products are all alike (one region) gathers its regions evenly, where the code divides zero by zero; captions of one
image are not each other's negatives.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.encoders import unit
from models.lessons import Lesson, Seen, lifted, required
from models.losses import other_image
from models.options import above_zero, at_least
from models.retrievers import Host, Ranked

RECIPE = 1
TITLE = "EFA (from FMFA)"
PAPER = "Yin et al., FMFA: full-mode fine-grained alignment for text-to-image person retrieval, arXiv 2509.13754"


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a number out of range."""

    word_margin: float = 0.1  # of words against gathered fragments
    region_margin: float = 0.9  # of regions against gathered fragments
    temperature: float = 0.02  # of the soft maximum over negatives
    weight: float = 1.0

    def __post_init__(self) -> None:
        for option in ("word_margin", "region_margin", "weight"):
            at_least(option, getattr(self, option), 0)
        above_zero("temperature", self.temperature)


def sparse_weights(products: Tensor, mask: Tensor) -> Tensor:
    """How much of each region a word gathers: rows sum to 1, regions that fit it least get nothing.

    products: (B, L, R) words x regions of matching pairs; mask: (B, R) bool, at least one real region each.  A word's
    products are spread from 0 to 1 over the real regions, those below 1 / their number are dropped.  (B, L, R).
    """
    real = mask[:, None]  # (B, 1, R)
    least = products.masked_fill(~real, float("inf")).amin(2, keepdim=True)
    most = products.masked_fill(~real, float("-inf")).amax(2, keepdim=True)
    span = most - least
    flat = span == 0
    spread = torch.where(flat, 1.0, (products - least) / torch.where(flat, 1.0, span))
    kept = real & (spread >= 1 / mask.sum(1)[:, None, None])
    spread = torch.where(kept, spread, 0.0)
    return spread / spread.sum(2, keepdim=True)  # the best fitting region has 1 before, so the sum is at least 1


def set_scores(tokens: Tensor, mask: Tensor, others: Tensor, other_mask: Tensor) -> tuple[Tensor, Tensor]:
    """How well each set of tokens finds itself in each other set (B, C), and the others in it (C, B).

    tokens: (B, N, d), others: (C, M, d), unit rows; masks: (B, N), (C, M) bool.  Each token takes its best cosine, the
    tokens of a set are joined by log-sum-exp; rows of both have unit length.
    """
    cosines = (tokens.flatten(0, 1) @ others.flatten(0, 1).T).view(*mask.shape, *other_mask.shape)
    least = float("-inf")
    best = cosines.masked_fill(~other_mask, least).max(3).values  # (B, N, C)
    forth = best.masked_fill(~mask[..., None], least).logsumexp(1)  # (B, C)
    best = cosines.masked_fill(~mask[..., None, None], least).max(1).values  # (B, C, M)
    back = best.masked_fill(~other_mask, least).logsumexp(2)  # (B, C)
    return unit(forth), unit(back.T)


def soft_hinge(scores: Tensor, impostors: Tensor, margin: float, temperature: float) -> Tensor:
    """Hinge against a soft maximum over the negatives of each row, mean over rows.

    scores: (B, B), matching on the diagonal; impostors: (B, B) bool, True where a pair may serve as a negative.  A row
    without negatives costs 0.  Returns ().
    """
    any_ = impostors.any(1)
    wrong = torch.where(impostors, scores / temperature, float("-inf"))
    wrong = torch.where(any_[:, None], wrong, 0.0).logsumexp(1) * temperature  # (B,)
    return torch.where(any_, margin + wrong - scores.diagonal(), 0.0).clamp(min=0).mean()


def efa_loss(
    regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor, impostors: Tensor, options: Options
) -> Tensor:
    """Words, then regions, against the fragments that each pair's words gathered, in both directions.

    regions: (B, R, d), words: (B, L, d), unit rows; masks (B, R), (B, L); impostors: (B, B) bool.  Returns ().
    """
    gathered = unit(sparse_weights(words @ regions.transpose(1, 2), region_mask) @ regions)  # (B, L, d)
    terms = []
    for tokens, mask, margin in (
        (words, word_mask, options.word_margin),
        (regions, region_mask, options.region_margin),
    ):
        sides = set_scores(tokens, mask, gathered, word_mask)
        terms += [soft_hinge(scores, impostors, margin, options.temperature) for scores in sides]
    return torch.stack(terms).sum()


class EFA(Lesson):
    """Reads `fragments` and nothing else."""

    def __init__(self, dim: int, options: Options) -> None:
        super().__init__()
        self.dim = dim
        self.options = options

    def forward(self, seen: Seen) -> dict[str, Tensor]:
        regions, region_mask = required(seen.images, "images", "fragments", self.dim, "EFA")
        words, word_mask = required(seen.texts, "texts", "fragments", self.dim, "EFA")
        impostors = other_image(seen.batch.subject)
        with torch.autocast(device_type=words.device.type, enabled=False):
            regions, words = unit(lifted(regions)), unit(lifted(words))
            loss = efa_loss(regions, region_mask, words, word_mask, impostors, self.options)
        return {"efa": self.options.weight * loss}


def put(host: Host, options: Options) -> Ranked:
    """The host's model with this lesson."""
    host.model.lessons["efa"] = EFA(host.inputs.dim, options)
    return host.model
