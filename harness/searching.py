"""One query against a gallery that a row has encoded: which items, with which scores, and how long every stage took.

A caption looks for pictures; a picture looks for captions, or for pictures like it where the gallery has no captions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from harness.data.kept import keeping
from harness.data.pictures import Pictures
from harness.data.prepared import Prepared, Side, image_batch, prepare
from harness.data.split import DataError, Images
from harness.data.text_model import WordPieces
from harness.data.vocabulary import Tokens, Vocabulary, tokens
from harness.measure.clock import timed
from harness.measure.evaluator import encode_images, encode_texts, evaluating, in_float32
from harness.measure.exact import ExactIndex, top_k
from harness.measure.scoring import Group, all_pairs, in_order
from harness.measure.shortlist import searched
from harness.phases.time import contender
from harness.protocol import Encoded, ImageBatch, Retriever, Staged
from harness.spec.job import Job, Settings, SpecError
from harness.store import Store

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")


@dataclass(frozen=True)
class Found:
    """What a query retrieved."""

    ids: tuple[str, ...]  # best first
    scores: tuple[float, ...]
    places: tuple[int, ...]  # in the gallery
    texts: tuple[str, ...]  # captions that were found; none where pictures were
    ms: dict[str, float]  # stage -> milliseconds
    gallery: int  # items it was compared with


def best_of(scores: np.ndarray, ids: tuple[str, ...], texts: tuple[str, ...], top: int, ms: dict[str, float]) -> Found:
    """The first of a whole gallery.  scores, ids: (N,), texts: (N,), or () of pictures.  ms: what went before."""
    best, rank_s = timed(lambda: top_k(scores, top), "cpu")
    return Found(
        tuple(ids[place] for place in best),
        tuple(float(scores[place]) for place in best),
        tuple(int(place) for place in best),
        tuple(texts[place] for place in best) if texts else (),
        ms | {"rank": 1000 * rank_s},
        len(scores),
    )


@dataclass
class Searcher:
    """A row with a gallery, encoded once."""

    model: Retriever
    settings: Settings
    data: Prepared
    gallery: Images
    captions: Side | None = None  # of the gallery, where it has some
    encode_gallery_ms: float = 0.0
    _images: Encoded | None = field(default=None, repr=False)

    def ask(self, query: str, top: int) -> Found:
        """What a picture finds, where the query is a file or an id of the gallery, else what a sentence does."""
        by_picture = query in self.gallery.ids or Path(query).is_file()
        return self.by_picture(query, top) if by_picture else self.by_text(query, top)

    def by_text(self, query: str, top: int) -> Found:
        """The pictures that a caption finds.  Raises DataError where no word of it is known."""
        asked = self._read(query)
        with evaluating(self.model):
            images = self._encoded()
            (group,), encode_s = timed(lambda: self._texts(asked), self.settings.device)
            scores, score_s = timed(lambda: self._scores(images, group.encoded, "t2i")[:, 0], self.settings.device)
        return best_of(scores, self.gallery.ids, (), top, _told(encode_s, score_s))

    def by_picture(self, query: str, top: int) -> Found:
        """What a picture finds, a file or an id of the gallery: captions, or pictures like it.

        Raises DataError, also for a file where the row does not read pixels.
        """
        device = self.settings.device
        with evaluating(self.model):
            image, encode_s = timed(lambda: self._picture(query), device)
            if self.captions is None:
                scores, score_s = timed(lambda: self._alike(image), device)
                return best_of(scores, self.gallery.ids, (), top, _told(encode_s, score_s))
            groups = self._texts(self.captions.tokens)
            texts = in_order(groups).encoded
            scores, score_s = timed(lambda: self._scores(image, texts, "i2t")[0], device)
        split = self.captions.split
        return best_of(scores, split.caption_ids, split.captions, top, _told(encode_s, score_s))

    def _encoded(self) -> Encoded:
        """The gallery, whose embeddings a pretrained row keeps by content."""
        if self._images is None:
            with keeping(self.model):
                call = partial(encode_images, self.model, self.gallery, self.settings)
                images, seconds = timed(lambda: in_float32(call()), self.settings.device)
            self._images, self.encode_gallery_ms = images, 1000 * seconds
        return self._images

    def _read(self, query: str) -> Tokens:
        settings = self.settings
        known = (
            WordPieces(settings.text_model)
            if settings.text_model
            else Vocabulary.build(self.data.train.split.captions, settings.min_count)
        )
        found = tokens([query], known, settings.max_words)
        if "tokens" in self.model.needs and found.unknown == 1:
            raise DataError(f"no word of {query!a:.80} is known to this row")
        return found

    def _texts(self, captions: Tokens) -> list[Group]:
        groups = encode_texts(self.model, captions, self.settings)
        return [replace(group, encoded=in_float32(group.encoded)) for group in groups]

    def _picture(self, query: str) -> Encoded:
        needs = self.model.needs
        if query in self.gallery.ids:
            batch = image_batch(self.gallery, np.array([self.gallery.ids.index(query)]), needs)
        elif "pixels" in needs:
            batch = ImageBatch(ids=(query,), pixels=(torch.tensor(_pixels(Path(query))).permute(2, 0, 1),))
        else:
            raise DataError(
                f"{query}: this row reads {' and '.join(needs)}, not pixels; a query is the id of a picture of the "
                f"gallery, such as {self.gallery.ids[0]}"
            )
        encoded = self.model.encode_images(batch.to(self.settings.device))
        return in_float32(self.model.indexed(encoded))

    def _scores(self, images: Encoded, texts: Encoded, way: str) -> np.ndarray:
        """(N, M) of one query against all others, by both stages where there are two."""
        settings, model = self.settings, self.model
        if way == "t2i" and model.family == "independent" and settings.device == "cpu":
            return ExactIndex(images, settings.threads).scores(texts)[:, None]
        group = Group(np.arange(len(texts)), texts)
        if not isinstance(model, Staged):
            return all_pairs(model, images, [group], settings.score_memory_mib)
        quick = all_pairs(model, images, [group], settings.score_memory_mib, score=model.first)
        return searched(model, images, texts, quick, way)

    def _alike(self, image: Encoded) -> np.ndarray:
        """(N,) inner products of a picture's embedding with those of the gallery."""
        if self.model.family != "independent" or image.embedding is None or image.embedding.ndim != 2:
            raise DataError("pictures are compared by one embedding each, which only independent rows have")
        embeddings = self._encoded().embedding
        assert embeddings is not None
        return (embeddings @ image.embedding[0]).cpu().numpy()


def _told(encode_s: float, score_s: float) -> dict[str, float]:
    return {"encode query": 1000 * encode_s, "score": 1000 * score_s}


def _pixels(path: Path) -> np.ndarray:
    """(H, W, 3) uint8.  Raises DataError."""
    return np.asarray(Pictures(path.parent).picture(path.name))


def pictures_of(folder: Path) -> Images:
    """Every picture of a folder, tar or zip by its path, in the order of names.  Raises DataError where there is none.

    Fragments are not there: only rows that read pixels can look at them.
    """
    store = Pictures(folder)
    names = sorted(name for name in store.paths if name.lower().endswith(ENDINGS))
    if not names:
        raise DataError(f"{folder}: no picture in it ({', '.join(ENDINGS)})")
    nothing = np.zeros((len(names), 1, 1), np.float32)
    return Images(nothing, np.arange(len(names)), tuple(names), pixels=lambda name: np.asarray(store.picture(name)))


def opened(job: Job, store: Store | None, gallery: Path | None) -> Searcher:
    """A row before the ranked split of its data, or before a folder of pictures.

    store: results folder with the weights of a trained row; None of a pretrained one.
    Raises SpecError and DataError.
    """
    data = prepare(job.data, job.settings)
    if store is None:
        from harness.phases.train import load_model

        model = load_model(job, data)
    else:
        found = contender(job, data, store)
        if found is None:
            raise SpecError(f"{job.model.label}: no weights in {store.folder} (--force of a run trains again)")
        model = found.model
    if gallery is None:
        return Searcher(model, job.settings, data, data.ranked.split.images, data.ranked)
    if {"fragments", "boxes"} & set(model.needs):
        raise DataError(
            f"{job.model.label} reads fragments, which pictures alone do not have: harness.features makes a data set"
        )
    return Searcher(model, job.settings, data, pictures_of(gallery))
