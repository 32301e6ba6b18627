"""Which region does a word pick, and which prototype do both belong to?  What SelfAlign's concept level learned.

Looked at once, after training, for a sample of captions and over the whole ranked split; stored beside the ranks, so
that a page can be drawn later without the model.  At test time a word's region is the nearest one of its own image, and
the prototype of either is the nearest one: what training softens by Sinkhorn is taken at its largest here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.prepared import Side, image_batch, text_batch
from harness.measure import metrics
from harness.measure.evaluator import CAPTION_BATCH, IMAGE_BATCH
from harness.precision import autocast
from harness.protocol import Encoded, Retriever
from harness.record import Concepts
from harness.spec.job import Settings

SAMPLE = 24  # captions looked at word by word
PROTOTYPES = 48  # the most used ones, those of the sample come on top
TOP = 5  # words and regions of a prototype


def assigned(model: Retriever, side: Side, words: Sequence[str], settings: Settings) -> Concepts | None:
    """The assignments over a split, None for a model without a concept level.

    words: the spelling of each token number.
    """
    level = getattr(model, "concept", None)
    if level is None:
        return None
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return _assigned(model, F.normalize(level.prototypes.float(), dim=-1), side, words, settings)
    finally:
        model.train(was_training)


def _assigned(model: Retriever, prototypes: Tensor, side: Side, words: Sequence[str], settings: Settings) -> Concepts:
    count = len(side.split.captions)
    captions = np.unique(np.linspace(0, count - 1, min(SAMPLE, count)).round().astype(np.int64))
    sample = _sample(model, prototypes, side, captions, settings)
    used = _words_of_prototypes(model, prototypes, side, settings)
    uses = {prototype: counter.total() for prototype, counter in used.items()}
    most = sorted(uses, key=lambda prototype: (-uses[prototype], prototype))[:PROTOTYPES]
    seen = {int(p) for name in ("word_prototypes", "region_prototypes") for p in sample[name].ravel() if p >= 0}
    chosen = sorted({*most, *seen}, key=lambda prototype: (-uses.get(prototype, 0), prototype))
    ranked = [sorted(used.get(p, Counter()).items(), key=lambda item: (-item[1], item[0]))[:TOP] for p in chosen]
    filled = [[*tokens, *[(-1, 0)] * (TOP - len(tokens))] for tokens in ranked]
    regions, similarities = _regions_of_prototypes(model, prototypes[chosen], side, settings)
    return Concepts(
        captions=captions.astype(np.int32),
        words=_spelled(sample.pop("tokens"), words),
        **sample,
        prototypes=np.array(chosen, np.int32),
        uses=np.array([uses.get(prototype, 0) for prototype in chosen], np.int32),
        top_words=_spelled(np.array([[token for token, _ in tokens] for tokens in filled]), words),
        top_counts=np.array([[times for _, times in tokens] for tokens in filled], np.int32),
        top_regions=regions,
        top_similarities=similarities,
        total=np.array(len(prototypes), np.int32),
    )


def _sample(
    model: Retriever, prototypes: Tensor, side: Side, captions: np.ndarray, settings: Settings
) -> dict[str, np.ndarray]:
    """Word by word: token number, region, its similarity, prototypes of both; (S, L), -1 where padded."""
    owner = side.split.caption_to_image[captions]
    with autocast(settings):
        images = model.encode_images(image_batch(side.split.images, owner, model.needs).to(settings.device))
        texts = model.encode_texts(text_batch(side.tokens, captions, model.needs).to(settings.device))
    regions, region_mask = _fragments(images)
    words, word_mask = _fragments(texts)
    similarity = (words @ regions.transpose(1, 2)).masked_fill(~region_mask[:, None], float("-inf"))  # (S, L, R)
    best, picked = similarity.max(2)  # (S, L)
    by_region = (regions @ prototypes.T).argmax(2)  # (S, R)
    inner = _inner(word_mask)
    found = {
        "tokens": torch.from_numpy(side.tokens.take(captions)[0]).to(picked.device)[:, : picked.shape[1]],
        "regions": picked,
        "word_prototypes": (words @ prototypes.T).argmax(2),
        "region_prototypes": by_region.gather(1, picked),
    }
    kept = {name: _moved_left(values, inner, -1).astype(np.int32) for name, values in found.items()}
    return kept | {"similarities": _moved_left(best, inner, 0).astype(np.float32)}


def _words_of_prototypes(
    model: Retriever, prototypes: Tensor, side: Side, settings: Settings
) -> dict[int, Counter[int]]:
    """Prototype -> how often each token of the split is nearest to it."""
    found: dict[int, Counter[int]] = {}
    for rows in metrics.blocks(len(side.split.captions), CAPTION_BATCH):
        tokens, _ = side.tokens.take(rows)
        with autocast(settings):
            texts = model.encode_texts(text_batch(side.tokens, rows, model.needs).to(settings.device))
        words, mask = _fragments(texts)
        nearest = (words @ prototypes.T).argmax(2)
        inner = _inner(mask).cpu().numpy()
        pairs = np.stack([nearest.cpu().numpy()[inner], tokens[:, : inner.shape[1]][inner]])  # (2, words)
        distinct, times = np.unique(pairs, axis=1, return_counts=True)
        for (prototype, token), count in zip(distinct.T.tolist(), times.tolist(), strict=True):
            found.setdefault(prototype, Counter())[token] += count
    return found


def _regions_of_prototypes(
    model: Retriever, prototypes: Tensor, side: Side, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """The TOP nearest regions of each of P prototypes, no two of one image: (P, TOP, 2) image and region, (P, TOP)."""
    best = prototypes.new_full((len(prototypes), 0), 0.0)
    image = prototypes.new_full((len(prototypes), 0), -1, dtype=torch.int64)
    region = image.clone()
    for numbers, regions, mask in _all_regions(model, side, settings):
        scores = (regions @ prototypes.T).masked_fill(~mask[..., None], float("-inf"))  # (B, R, P)
        of_image, where = scores.max(1)  # (B, P)
        best = torch.cat([best, of_image.T], 1)
        image = torch.cat([image, numbers.expand(len(prototypes), -1)], 1)
        region = torch.cat([region, where.T], 1)
        best, kept = best.topk(min(TOP, best.shape[1]), dim=1)
        image, region = image.gather(1, kept), region.gather(1, kept)
    missing = TOP - best.shape[1]
    pairs = F.pad(torch.stack([image, region], 2), (0, 0, 0, missing), value=-1)
    return pairs.cpu().numpy().astype(np.int32), F.pad(best, (0, missing)).cpu().numpy().astype(np.float32)


def _all_regions(model: Retriever, side: Side, settings: Settings) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Block by block: image numbers (B,), unit regions (B, R, d), mask (B, R)."""
    for rows in metrics.blocks(len(side.split.images), IMAGE_BATCH):
        with autocast(settings):
            images = model.encode_images(image_batch(side.split.images, rows, model.needs).to(settings.device))
        regions, mask = _fragments(images)
        yield torch.arange(rows.start, rows.stop, device=mask.device), regions, mask


def _fragments(encoded: Encoded) -> tuple[Tensor, Tensor]:
    """Unit fragments (B, N, d) in float32 and their mask (B, N), as the concept level reads them."""
    assert encoded.fragments is not None
    assert encoded.mask is not None
    return F.normalize(encoded.fragments.float(), dim=-1), encoded.mask


def _inner(mask: Tensor) -> Tensor:
    """(B, L) bool: real words without the first and the last, which only say where a caption begins and ends."""
    places = torch.arange(mask.shape[1], device=mask.device)
    return mask & (places > 0) & (places < mask.sum(1, keepdim=True) - 1)


def _moved_left(values: Tensor, mask: Tensor, padding: int) -> np.ndarray:
    """The values of a row that count, from its start on: (B, L) -> (B, longest)."""
    rows = [row[keep].cpu().numpy() for row, keep in zip(values, mask, strict=True)]
    table = np.full((len(rows), max(1, *map(len, rows))), padding, rows[0].dtype)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table


def _spelled(tokens: np.ndarray, words: Sequence[str]) -> np.ndarray:
    """Token numbers as text, "" for -1."""
    text = [["" if token < 0 else words[token] for token in row] for row in tokens.tolist()]
    return np.array(text, dtype=np.str_).reshape(tokens.shape)
