"""A-SDM (from FMFA): the whole distribution of a batch's scores is drawn to that of its matches, hard rows more so.

SDM (Jiang and Ye, IRRA, CVPR 2023) is the divergence KL(softmax(scores / temperature) || matches) in both directions;
A-SDM weighs each query's term up by how far a wrong item lies above its best right one.  `adaptive=0` is SDM.

Departs from FMFA: identity is the image where the data tell no other, so sibling captions are matches; where a query
has several the best of them counts in its weight; no CLIP host, none of its other losses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.lessons import Lesson, Seen, lifted
from models.losses import other_image
from models.options import above_zero, at_least
from models.retrievers import Host, Ranked

RECIPE = 1
TITLE = "A-SDM (from FMFA)"
PAPER = "Yin et al., FMFA: full-mode fine-grained alignment for text-to-image person retrieval, arXiv 2509.13754"

FLOOR_OF_MATCHES = 1e-8  # stands in for zero in the distribution of matches


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a number out of range."""

    temperature: float = 0.02  # of the scores
    adaptive: float = 0.1  # weight of a query = 1 + this x (best wrong score - best right one), where that is positive
    through_weight: bool = True  # gradients flow through that weight too, as in the official code
    weight: float = 1.0
    hinge: bool = True  # the host's ranking loss stays beside it

    def __post_init__(self) -> None:
        above_zero("temperature", self.temperature)
        at_least("adaptive", self.adaptive, 0)
        at_least("weight", self.weight, 0)


def sdm(scores: Tensor, matches: Tensor, temperature: float, adaptive: float = 0.0, *, through: bool = True) -> Tensor:
    """Divergence of each row's scores from its matches, mean over rows (IRRA eq. 4 to 6; FMFA's weight if `adaptive`).

    scores: (B, C), matches: (B, C) bool, at least one in a row.  The direction is KL(scores || matches): probability
    where nothing matches is dear, its lack where something matches cheap.  Returns ().
    """
    found = (scores / temperature).log_softmax(1)  # (B, C)
    wanted = (matches.to(scores) / matches.sum(1, keepdim=True) + FLOOR_OF_MATCHES).log()
    of_row = (found.exp() * (found - wanted)).sum(1)  # (B,)
    if adaptive:
        gap = scores.amax(1) - scores.masked_fill(~matches, float("-inf")).amax(1)  # 0 where the top item is right
        of_row = of_row * (1 + adaptive * (gap if through else gap.detach()))
    return of_row.mean()


class ASDM(Lesson):
    """Both directions, added."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.ranking = options.hinge

    def forward(self, seen: Seen) -> dict[str, Tensor]:
        options, scores = self.options, lifted(seen.scores)
        matches = ~other_image(seen.batch.subject)  # (B, B), symmetric
        with torch.autocast(device_type=scores.device.type, enabled=False):
            both = [
                sdm(side, matches, options.temperature, options.adaptive, through=options.through_weight)
                for side in (scores, scores.T)
            ]
            return {"a-sdm": options.weight * torch.stack(both).sum()}


def put(host: Host, options: Options) -> Ranked:
    """The host's model with this lesson."""
    host.model.lessons["a-sdm"] = ASDM(options)
    return host.model
