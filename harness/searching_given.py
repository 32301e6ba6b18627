"""One query before embeddings from a file, which are searched as they lie there: no encoder, and no copy of them.

A query is a caption or an image of the file's own, or one vector in a file of its own, made by the same encoder.  Items
are called as the data call them, without data as the file does, and by the numbers of their rows where nobody does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from harness.data import sources
from harness.data.given import files, places
from harness.data.given.places import Truth
from harness.data.given.read import read
from harness.data.given.vectors import Embeddings, Side, check_shapes
from harness.data.precomp import open_array
from harness.data.split import DataError, Images
from harness.data.vocabulary import picked
from harness.measure.clock import timed
from harness.measure.cost import spread
from harness.measure.evaluator import evaluating
from harness.measure.exact import ExactIndex
from harness.measure.given import GivenModel
from harness.measure.index import vectors
from harness.measure.scoring import Group, all_pairs
from harness.phases.given import room
from harness.protocol import Encoded, ImageBatch, TextBatch
from harness.searching import Found, best_of
from harness.spec.given import Request
from harness.spec.job import Settings

SIDES = ("image", "caption")
VECTOR = ".npy"


@dataclass
class GivenSearcher:
    """Embeddings of both sides, and what their items are called."""

    model: GivenModel
    settings: Settings
    gallery: Images
    captions: tuple[str, ...]  # (M,) ids
    texts: tuple[str, ...]  # (M,) "" where nobody says
    encode_gallery_ms: float = 0.0  # making a side ready, where it is not searched as it lies
    _ready: dict[str, ExactIndex | Encoded] = field(default_factory=dict, repr=False)

    def ask(self, query: str, top: int) -> Found:
        """What a caption, an image or a vector finds.  Raises DataError where the query is none of these."""
        kind, name = self._meant(query)
        device = self.settings.device
        with evaluating(self.model):
            asked, looked_s = timed(partial(self._looked_up, kind, name), device)
            sought = "caption" if kind == "image" else "image"
            gallery = self._gallery(sought)
            scores, score_s = timed(partial(self._scores, gallery, asked, sought), device)
        ids, texts = (self.gallery.ids, ()) if sought == "image" else (self.captions, self.texts)
        return best_of(scores, ids, texts, top, {"look query up": 1000 * looked_s, "score": 1000 * score_s})

    def matrices(self, label: str, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, d) and captions (q, d) in float32, whose inner products are scores; images as they lie, if so.

        most: captions, spread evenly over all.  Raises SpecError where there is not one vector an item.
        """
        side, captions = self.model.found.images, self._encoded("caption", spread(len(self.captions), most))
        queries = vectors(captions, label)
        plain = self.model.found.scorer == "dot" and side.scale is None and side.shared is None and side.in_order
        if plain and side.vectors.dtype == np.float32:
            return np.ascontiguousarray(side.vectors), queries
        return vectors(self._encoded("image"), label), queries

    def _meant(self, query: str) -> tuple[str, str]:
        """`caption`, `image` or `vector`, and its id or file.  Raises DataError."""
        told, colon, name = query.partition(":")
        known = dict(zip(SIDES, self.model.places, strict=True))
        if colon and told in SIDES and name in known[told]:
            return told, name
        sides = [side for side in SIDES if query in known[side]]
        if len(sides) > 1:
            raise DataError(f"{query} is an image as well as a caption: ask for caption:{query} or image:{query}")
        if sides:
            return sides[0], query
        if Path(query).suffix == VECTOR:
            return "vector", query
        raise DataError(
            f"{query!a:.80}: embeddings from a file have no encoder, so a query is caption:ID (such as caption:"
            f"{self.captions[0]}), image:ID (such as image:{self.gallery.ids[0]}), or a {VECTOR} file of one vector"
        )

    def _looked_up(self, kind: str, name: str) -> Encoded:
        if kind == "vector":
            return self.model.asked(vector(Path(name), self.model))
        return self._encoded(kind, np.array([self.model.places[SIDES.index(kind)][name]]))

    def _side(self, which: str) -> Side:
        return self.model.found.images if which == "image" else self.model.found.captions

    def _gallery(self, which: str) -> ExactIndex | Encoded:
        """One side made ready when it is first asked for."""
        if which not in self._ready:
            self._ready[which], seconds = timed(lambda: self._indexed(which) or self._encoded(which), "cpu")
            self.encode_gallery_ms = 1000 * seconds
        return self._ready[which]

    def _indexed(self, which: str) -> ExactIndex | None:
        """None where scores are no inner products with what is stored, or are computed on a GPU."""
        one_vector = which == "image" or self.model.found.images.vectors.ndim == 2
        if self.settings.device != "cpu" or not one_vector:
            return None
        return self.model.index(self._side(which), self.settings.threads)

    def _encoded(self, which: str, rows: np.ndarray | slice = slice(None)) -> Encoded:
        """Put together from what is stored."""
        if which == "image":
            return self.model.encode_images(ImageBatch(ids=picked(self.gallery.ids, rows)))
        return self.model.encode_texts(TextBatch(None, None, ids=picked(self.captions, rows)))  # type: ignore[arg-type]

    def _scores(self, gallery: ExactIndex | Encoded, asked: Encoded, which: str) -> np.ndarray:
        if isinstance(gallery, ExactIndex):
            return gallery.scores(asked)
        images, texts = (gallery, asked) if which == "image" else (asked, gallery)
        group = Group(np.arange(len(texts)), texts)
        return all_pairs(self.model, images, [group], self.settings.score_memory_mib).reshape(-1)


def vector(path: Path, model: GivenModel) -> np.ndarray:
    """(1, d), or (1, L, d) where captions have several vectors.  Raises DataError."""
    found, several = open_array(path), model.found.captions.vectors.ndim == 3
    width = model.found.captions.vectors.shape[-1]
    if found.dtype.kind != "f" or found.ndim not in ((2,) if several else (1, 2)) or found.shape[-1] != width:
        need = f"({'vectors, ' if several else ''}{width})"
        raise DataError(f"{path}: {found.dtype} of shape {found.shape}, a caption here is floating-point of {need}")
    if found.ndim == 2 and not several and len(found) != 1:
        raise DataError(f"{path}: holds {len(found):,} vectors, a query is one")
    if not np.isfinite(found).all() or not np.asarray(found.any(-1)).all():
        raise DataError(f"{path}: NaN, infinite or all zero: no query")
    if model.found.captions.shared is not None:
        raise DataError(f"{path}: captions here have a shared block beside their vector: ask for one of them by its id")
    return np.asarray(found).reshape(1, *([-1] if several else []), width)


def opened(request: Request, data: str, settings: Settings) -> GivenSearcher:
    """A row from files before its own other side.  data: whose test split it is of; "" = nobody's.

    Raises SpecError and DataError, also for scores and lists, which answer nothing but what they were made for.
    """
    kind, arrays = files.opened(request, room())
    if kind != "embeddings":
        raise DataError(f"--row {request.name}: these files hold {kind}, only embeddings can be searched")
    if data:
        split = sources.find(data).load("test")
        truth, gallery, texts = Truth.of(split), split.images, split.captions
    else:
        check_shapes(request.name, arrays)
        named = {
            what: tuple(places.as_texts(arrays.get(f"{what}_ids", np.arange(len(arrays[f"{what}s"]))), f"{what}_ids"))
            for what in SIDES
        }
        rows = {f"{what}_ids": np.array(names) for what, names in named.items() if f"{what}_ids" in arrays}
        arrays = {name: array for name, array in arrays.items() if name not in files.MAPPING} | rows
        truth = Truth(np.zeros(len(named["caption"]), np.int64), len(named["image"]), named["image"], named["caption"])
        gallery = Images(np.empty((truth.images, 1, 0), np.float32), np.arange(truth.images), truth.image_ids)
        texts = ("",) * truth.captions
    found = read(request.name, kind, arrays, request.options, truth)
    assert isinstance(found, Embeddings)
    model = GivenModel(found, gallery.ids, truth.caption_ids).to(settings.device)
    return GivenSearcher(model, settings, gallery, truth.caption_ids, texts)
