"""NAAF (Zhang et al., CVPR 2022): words with no region above a learned threshold count against a pair.

A word adds the cosine-like fit of the regions above the threshold, its attended products as in SCAN t2i, and, where
even its best region stays below, the (negative) distance to the threshold.  In training the threshold is where the
best products of matching and of mismatching words separate; retrieval uses a lower, safe one, and asks first whether a
word is missing in the light of the caption's similar words.  That second question decides alone, so what then counts
may be a positive distance: the published test-time score.

Departs from the official code: both thresholds are re-estimated once per batch, from the batch's scores, and serve
the next batch; there they move from caption to caption, so that scores depend on the order of the captions and every
batch begins at 0.  A batch with too few words leaves them as they are, where the code sets them to 0.  They are kept
and restored with the weights.  Word vectors are learned, not GloVe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from harness.protocol import Encoded, Inputs, PairBatch, Retriever
from models import fused
from models.attention import (
    aggregated,
    attended_cosine,
    attention_weights,
    gram,
    largest,
    products,
    unscaled_weights,
    weighed,
    without_padding,
)
from models.fragments import FragmentModel
from models.options import above_zero, at_least

RECIPE = 1
PAPER = "Zhang et al., Negative-Aware Attention Framework for Image-Text Matching, CVPR 2022"
VARIANTS: dict[str, dict] = {"": {}}


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a multiplier that is not positive, or a number out of range."""

    lam: float = 20.0  # multiplies products before a softmax over regions
    smoothing: float = 5.0  # multiplies the products of a caption's words before the softmax over them
    alpha: float = 2.0  # how many times as likely matching must be as mismatching, at the threshold
    momentum: float = 0.7  # weight of a new estimate against the old threshold, 0 = never learn one
    least_words: int = 200  # a batch with no more words to estimate from leaves the thresholds alone

    def __post_init__(self) -> None:
        for option in ("lam", "smoothing", "alpha"):
            above_zero(option, getattr(self, option))
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum={self.momentum!r} must be between 0 and 1")
        at_least("least_words", self.least_words, 1)


# Scores


def shortfall(
    best: Tensor,
    threshold: Tensor,
    words: Tensor,
    word_mask: Tensor | None,
    smoothing: float | None,
) -> Tensor:
    """What words count whose best region stays below the threshold: its distance; 0 for other words (NAAF).

    With `smoothing` a word stays below if its neighbours do on average, weighted by a softmax of their products times
    `smoothing`; the distance is its own all the same.

    best: (N, L, M), the largest product of each word; threshold: (); words: (M, L, d), word_mask: (M, L) -> (N, L, M).
    """
    distance = best - threshold
    if smoothing is None:
        return distance.clamp(max=0)
    alike = smoothing * gram(words)  # (M, L, L)
    if word_mask is not None:
        alike = alike.masked_fill(~word_mask[:, None], float("-inf"))
    smoothed = alike.softmax(2) @ distance.permute(2, 1, 0)  # (M, L, N)
    return distance * (smoothed.permute(2, 1, 0) < 0)


def word_scores(
    regions: Tensor,
    words: Tensor,
    region_mask: Tensor | None,
    word_mask: Tensor | None,
    threshold: Tensor,
    lam: float,
    smoothing: float | None,
    region_gram: Tensor,
) -> Tensor:
    """How much every word of every caption speaks for every image (NAAF): two positive parts and a negative one.

    regions: (N, R, d), words: (M, L, d) unit rows, region_mask: (N, R), word_mask: (M, L), threshold: (),
    region_gram: (N, R, R) -> (N, L, M), of no meaning where the word is padding.
    """
    scores = products(regions, words)  # (N, R, L, M)
    missing = shortfall(largest(scores, region_mask), threshold, words, word_mask, smoothing)
    length_one = scores.new_ones(scores.shape[2:])  # a word's own length is not divided out
    if fused.pays(scores, region_gram):
        by_products = weighed(lam, "no_norm", "threshold", threshold.item())
        by_shares = weighed(lam, "clipped_l2norm", mean=True)
        assert by_products is not None
        assert by_shares is not None
        found = fused.attended_cosines(scores, region_gram, length_one, by_products, region_mask)
        return missing + found + fused.attended_cosines(scores, region_gram, length_one, by_shares, region_mask)
    visible = scores if region_mask is None else scores.masked_fill(~region_mask[:, :, None, None], float("-inf"))
    above = attention_weights(scores, lam, region_mask) * (visible > threshold)  # all 0 where no region is above
    found = attended_cosine(above, scores, region_gram, length_one)
    weights = unscaled_weights(scores, lam, "clipped_l2norm", word_mask, region_mask)
    return missing + found + (weights * scores).sum(1) / weights.sum(1)


# Thresholds


def word_maxima(images: Encoded, texts: Encoded) -> Tensor:
    """Largest product with a region for each real word of B pairs, caption j with image j.  Returns (words,)."""
    regions, region_mask = without_padding(images)  # (B, R, d)
    words, word_mask = without_padding(texts)  # (B, L, d)
    scores = words @ regions.mT  # (B, L, R)
    if region_mask is not None:
        scores = scores.masked_fill(~region_mask[:, None], float("-inf"))
    best = scores.amax(2)  # (B, L)
    return best.flatten() if word_mask is None else best[word_mask]


def crossing(match_mean: float, match_sd: float, other_mean: float, other_sd: float, alpha: float) -> float | None:
    """Where the normal density of matching words is `alpha` times that of mismatching ones (NAAF).

    It is the larger root of a quadratic if matching words spread more, else the smaller.  None where there is none.
    """
    if not (match_sd > 0 and other_sd > 0):
        return None
    match_variance, other_variance = match_sd**2, other_sd**2
    a = match_variance - other_variance
    b = 2 * (match_mean * other_variance - other_mean * match_variance)
    c = other_mean**2 * match_variance - match_mean**2 * other_variance
    c += 2 * match_variance * other_variance * math.log(other_sd / (alpha * match_sd) + 1e-8)
    discriminant = b**2 - 4 * a * c
    return None if discriminant <= 0 else (math.sqrt(discriminant) - b) / (2 * a + 1e-10)


def estimate(matching: Tensor, other: Tensor, alpha: float) -> tuple[float, float] | None:
    """The threshold that separates, and the safe one three deviations below the mean of matching words (NAAF).

    matching, other: (words,), best products on the own image and on another.  An estimate outside 0..1 becomes 0.
    None where nothing separates them.
    """
    match_mean, match_sd = matching.mean().item(), matching.std().item()
    separating = crossing(match_mean, match_sd, other.mean().item(), other.std().item(), alpha)
    if separating is None:
        return None
    threshold, safe = (value if 0 <= value <= 1 else 0.0 for value in (separating, match_mean - 3 * match_sd))
    return threshold, safe


class NAAF(FragmentModel):
    """One linear map for regions, a bidirectional GRU for words, and two thresholds without gradient."""

    threshold: Tensor  # (), in training
    safe_threshold: Tensor  # (), in retrieval

    compiled = True

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        self.options = options
        self.register_buffer("threshold", torch.tensor(0.0))
        self.register_buffer("safe_threshold", torch.tensor(0.0))

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        score = partial(self._scores, *self._standard())  # of now: thresholds move before gradients are computed
        return self.in_tiles(score, self.prepared(images), texts)

    def tile_scores(self, images: Encoded, texts: Encoded) -> Tensor:
        return self._scores(*self._standard(), images, texts)

    def losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        scores = self.similarity(images, texts)
        losses = {"hinge": self.ranking_loss(scores, batch)}
        if self.training:
            self._learn_thresholds(images, texts, scores, batch.image_index)
        return losses

    def _standard(self) -> tuple[Tensor, float | None]:
        """The threshold to be above, and by what smoothing a word is missing."""
        if self.training:
            return self.threshold.clone(), None
        return self.safe_threshold.clone(), self.options.smoothing

    def _scores(self, threshold: Tensor, smoothing: float | None, images: Encoded, texts: Encoded) -> Tensor:
        """(X, Y), whatever the padding."""
        regions, region_mask = without_padding(images)
        words, word_mask = without_padding(texts)
        known = images.extras.get("gram")
        region_gram = gram(regions) if known is None else known
        per_word = word_scores(
            regions, words, region_mask, word_mask, threshold, self.options.lam, smoothing, region_gram
        )
        return aggregated(per_word, "mean", word_mask)

    @torch.no_grad()
    def _learn_thresholds(self, images: Encoded, texts: Encoded, scores: Tensor, image_index: Tensor) -> None:
        """Moves both thresholds, by the captions that rank their own image first.

        Their words' best products on the own image are set against those on the image that fits them least.
        scores: (B, B), image_index: (B,).
        """
        first = (image_index[scores.argmax(0)] == image_index).nonzero().squeeze(1)  # captions
        texts = texts.select(first)
        matching = word_maxima(images.select(first), texts).double()
        if len(matching) <= self.options.least_words:
            return
        other = word_maxima(images.select(scores.argmin(0)[first]), texts).double()
        found = estimate(matching, other, self.options.alpha)
        if found is not None:
            for threshold, new in zip((self.threshold, self.safe_threshold), found, strict=True):
                threshold.lerp_(torch.full_like(threshold, new), self.options.momentum)


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs."""
    return NAAF(inputs, options)
