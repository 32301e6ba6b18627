"""Rows from files, evaluated: embeddings as a model that looks its items up, scores and lists as they are.

Embeddings thereby get what an independent row gets, by the same code: ranks, single queries, indexes, reranking.  Their
encoders ran elsewhere, so nothing is said of the time of encoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.given.lists import Lists
from harness.data.given.matrix import Scores
from harness.data.given.read import Given
from harness.data.given.vectors import Embeddings, Side
from harness.data.prepared import Side as Prepared
from harness.data.split import DataError, Split
from harness.measure import evaluator, metrics
from harness.measure.clock import timed
from harness.measure.evaluator import TOP, Evaluation
from harness.measure.exact import ExactIndex
from harness.progress import Watch, unwatched
from harness.protocol import Encoded, Family, ImageBatch, TextBatch, Untrained
from harness.record import Ranks
from harness.spec.given import BOTH
from harness.spec.job import Settings
from models.retrievers import inner_product

WORSE = 0.75  # mean share of the other images above a caption's own, from which scores look like distances
SURE = 6.0  # standard errors above one half, likewise
UNIFORM_SD = 12**-0.5  # of such a share, where scores are noise


class GivenModel(Untrained):
    """Embeddings looked up by the ids of a batch, and a named scorer.

    dot, cosine             <v, t> of one vector each, in `cosine` of unit length
    max                     max_k <v_k, t> over the vectors of an image (BLIP-2, Li et al. 2023)
    max-sum, max-mean       sum, or mean, over the vectors of a caption of the best vector of the image (ColBERT's
                            MaxSim, Khattab & Zaharia 2020; ALADIN's alignment, Messina et al. 2022)
    sum-max                 sum over the vectors of an image of the best vector of the caption
    -cosine                 the same of vectors of unit length
    """

    needs = ()
    encodes = False
    place: Tensor

    def __init__(self, found: Embeddings, image_ids: Sequence[str], caption_ids: Sequence[str]) -> None:
        super().__init__()
        self.found = found
        self.register_buffer("place", torch.empty(0))  # where what is looked up goes
        self.base = found.scorer.removesuffix("-cosine")
        self.unit = found.scorer.endswith("cosine")
        self.family: Family = "interactive" if found.scorer in BOTH else "independent"  # type: ignore[misc]
        self.places: tuple[Mapping[str, int], Mapping[str, int]] = (
            {name: place for place, name in enumerate(image_ids)},
            {name: place for place, name in enumerate(caption_ids)},
        )

    def encode_images(self, images: ImageBatch) -> Encoded:
        return self._looked_up(self.found.images, images.ids, 0)

    def encode_texts(self, texts: TextBatch) -> Encoded:
        return self._looked_up(self.found.captions, texts.ids, 1)

    def _looked_up(self, side: Side, ids: tuple[str, ...] | None, which: int) -> Encoded:
        if ids is None:
            raise ValueError("items without ids cannot be looked up")
        places = np.array([self.places[which][name] for name in ids], np.int64)
        vectors, mask = side.take(places)
        found = torch.from_numpy(vectors).to(self.place.device)
        if self.unit:
            found = F.normalize(found, dim=-1)
        real = None if mask is None else torch.from_numpy(mask).to(self.place.device)
        if self.family == "interactive":
            whole = torch.ones(found.shape[:2], dtype=torch.bool, device=found.device)
            return Encoded(contextual=found, mask=whole if real is None else real)
        if real is not None:  # padding must never be the best view: it stands for the first real one once more
            first = found[torch.arange(len(found)), real.int().argmax(1)]
            found = torch.where(real[..., None], found, first[:, None])
        rows = None if side.shared is None else torch.from_numpy(side.shared[side.rows[places]].astype(np.float32))
        return Encoded(embedding=found, shared=None if rows is None else rows.to(found.device))

    def asked(self, vectors: np.ndarray) -> Encoded:
        """A caption that was embedded elsewhere, (1, d), or (1, L, d) where a caption has several."""
        found = torch.from_numpy(vectors.astype(np.float32)).to(self.place.device)
        if self.unit:
            found = F.normalize(found, dim=-1)
        if self.family == "independent":
            return Encoded(embedding=found)
        return Encoded(contextual=found, mask=torch.ones(found.shape[:2], dtype=torch.bool, device=found.device))

    def index(self, side: Side, threads: int) -> ExactIndex | None:
        """One side as it is stored, for exact search; None where it must be put together first."""
        if self.family != "independent" or side.mask is not None or side.shared is not None or not side.in_order:
            return None
        return ExactIndex.stored(side.vectors, threads, scale=side.scale, unit=self.unit)

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        """(N, M)."""
        if self.family == "independent":
            return inner_product(images, texts)
        assert images.contextual is not None
        assert texts.contextual is not None
        assert images.mask is not None
        assert texts.mask is not None
        pairs = torch.einsum("nkd,mld->nmkl", images.contextual, texts.contextual)  # (N, M, K, L)
        of_image, of_text = images.mask[:, None, :, None], texts.mask[None, :, None, :]
        if self.base == "sum-max":
            best = pairs.masked_fill(~of_text, -torch.inf).amax(3)  # (N, M, K)
            return best.masked_fill(~images.mask[:, None], 0).sum(2)
        best = pairs.masked_fill(~of_image, -torch.inf).amax(2)  # (N, M, L)
        total = best.masked_fill(~texts.mask[None], 0).sum(2)
        return total / texts.mask.sum(1) if self.base == "max-mean" else total


def model_of(found: Embeddings, split: Split, settings: Settings) -> GivenModel:
    """On the device of the settings, where what is looked up goes."""
    return GivenModel(found, split.images.ids, split.caption_ids).to(settings.device)


def evaluate(found: Given, side: Prepared, settings: Settings, watch: Watch = unwatched) -> Evaluation:
    """Ranks of every query of the split.  Raises DataError where the scores look like distances."""
    split = side.split
    if isinstance(found, Embeddings):
        whole = evaluator.evaluate(model_of(found, split, settings), side, settings, watch)
        seconds = {stage: s for stage, s in whole.seconds.items() if stage in ("score", "rank")}
        whole = replace(whole, seconds=seconds)
    else:
        rank = of_scores if isinstance(found, Scores) else of_lists
        (ranks, tied), rank_s = timed(lambda: rank(found, split), "cpu")  # type: ignore[arg-type]
        whole = Evaluation(ranks, tied, {"rank": rank_s})
    check_direction(whole.ranks.t2i, len(split.images))
    return whole


def check_direction(t2i: np.ndarray, images: int) -> None:
    """Raises DataError where captions' own images score lowest: what was given then is a distance.

    Where scores are noise the share of other images above a caption's own is uniform, with mean 1/2 and variance 1/12.
    """
    share = float(t2i.mean()) / max(1, images - 1)
    if share > WORSE and (share - 0.5) * len(t2i) ** 0.5 / UNIFORM_SD > SURE:
        raise DataError(
            f"the right image scores below {share:.0%} of the others on average: are these distances? "
            "Higher must mean more alike, so give them negated"
        )


def of_scores(found: Scores, split: Split) -> tuple[Ranks, int]:
    """Ranks by one matrix, or by a matrix for each direction, and how many queries tie."""
    ranks, tied = evaluator.rank(found.i2t, split)
    if found.t2i is None:
        return ranks, tied
    other, _ = evaluator.rank(found.t2i, split)
    _, tied_images = metrics.image_to_text_ranks(found.i2t, split.caption_to_image)
    _, tied_captions = metrics.text_to_image_ranks(found.t2i, split.caption_to_image)
    tied = int(tied_images.sum() + tied_captions.sum())
    return replace(ranks, t2i=other.t2i, t2i_top=other.t2i_top, fold_t2i=other.fold_t2i), tied


def of_lists(found: Lists, split: Split) -> tuple[Ranks, int]:
    """Ranks by lists: what is in none of them ties behind all that is, so a right answer beyond its list is last.

    Folds are there where the lists tell recall at 10 within each.
    """
    owner, images = split.caption_to_image, len(split.images)
    own = np.bincount(owner, minlength=images)
    right = {
        "i2t": (owner[found.i2t] == np.arange(images)[:, None]) & (found.i2t >= 0),
        "t2i": found.t2i == owner[:, None],
    }
    i2t, tied_images = list_ranks(right["i2t"], found.i2t >= 0, found.i2t_scores, len(owner) - own)
    t2i, tied_captions = list_ranks(right["t2i"], found.t2i >= 0, found.t2i_scores, np.full(len(owner), images - 1))
    folds = _fold_ranks(found, split, right) if split.fold_images else None
    none = np.empty(0, np.int32)
    places = evaluator.fold_places(split) if folds else dict.fromkeys(("fold_of_image", "fold_of_caption"), none)
    ranks = Ranks(
        i2t=i2t,
        t2i=t2i,
        i2t_top=found.i2t[:, :TOP],
        t2i_top=found.t2i[:, :TOP],
        fold_i2t=folds[0] if folds else none,
        fold_t2i=folds[1] if folds else none,
        **places,
        groups=dict(split.groups),
        caption_to_image=owner.astype(np.int32),
    )
    return ranks, int(tied_images.sum() + tied_captions.sum())


def list_ranks(
    right: np.ndarray, counted: np.ndarray, scores: np.ndarray | None, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks (Q,) int32 of the best right answer, equal scores before it, and which of them tie.

    right, counted: (Q, k) bool, of the items listed: right ones, and those that are in the gallery at all.
    scores: (Q, k), never rising.  others: (Q,) wrong answers of the whole gallery, which all stand before one that is
    not listed.
    """
    place = np.where(right.any(1), right.argmax(1), right.shape[1])  # (Q,) of the first right one
    if scores is None:
        above = np.arange(right.shape[1]) < place[:, None]
        level = above
    else:
        best = np.take_along_axis(scores, np.minimum(place, right.shape[1] - 1)[:, None], 1)
        above, level = scores > best, scores >= best
    wrong = counted & ~right
    listed = right.any(1)
    ranks = np.where(listed, (level & wrong).sum(1), others).astype(np.int32)
    return ranks, listed & ((above & wrong).sum(1) < ranks)


def _fold_ranks(found: Lists, split: Split, right: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Ranks within folds; None where a list has too few of a fold to tell recall at 10."""
    fold_of_image = np.arange(len(split.images)) // split.fold_images
    fold_of_caption = fold_of_image[split.caption_to_image]
    parts = []
    for way, numbers, own, of_items in (
        ("i2t", found.i2t, fold_of_image, fold_of_caption),
        ("t2i", found.t2i, fold_of_caption, fold_of_image),
    ):
        inside = (of_items[numbers] == own[:, None]) & (numbers >= 0)
        if (~right[way].any(1) & (inside.sum(1) < max(metrics.RECALL_AT))).any():
            return None
        sizes = np.bincount(of_items)[own]
        positives = np.bincount(split.caption_to_image)[np.arange(len(own))] if way == "i2t" else 1
        scores = found.i2t_scores if way == "i2t" else found.t2i_scores
        parts.append(list_ranks(right[way], inside, scores, sizes - positives)[0])
    return parts[0], parts[1]
