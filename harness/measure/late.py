"""Late interaction served as a search engine serves it: a quick index names a shortlist, exact scores order it.

For rows whose score is pooled from the best product of each word (`Retriever.late_interaction`: ColBERT's MaxSim where
it is their sum).  Four ways to the best images:

exact          the whole gallery scored as the model scores any pairs
best products  the same scores by one matrix product, a maximum over regions and the pooling, block by block
muvera sq8     fixed dimensional encodings (`harness.measure.fde`) in FAISS's flat index of bytes
word anchors   a table of what the best region says to each of some thousand words (`harness.measure.anchors`)

Fragments for the second stage are kept as float16.  An index's bytes are those of both stages, its milliseconds those
of a query whose caption is encoded, and its recall is that of the best by exact scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.data.prepared import Prepared
from harness.measure.anchors import Table, best_products, centres
from harness.measure.clock import timed
from harness.measure.cost import spread
from harness.measure.evaluator import encode_texts, in_float32
from harness.measure.exact import top_k
from harness.measure.fde import Encoding
from harness.measure.index import (
    MEMORY_SHARE,
    NEIGHBOURS,
    QUERIES,
    Built,
    Judge,
    Measure,
    Search,
    TooSlow,
    absent,
    asked,
    filled_up,
    library,
    put_in,
    real_images,
    stored_bytes,
)
from harness.measure.memory import available_bytes
from harness.measure.metrics import blocks
from harness.measure.query import ready
from harness.progress import Progress, Watch, unwatched
from harness.protocol import Encoded, Retriever
from harness.record import Searched
from harness.spec.job import Settings, SpecError

SHORTLISTS = (100, 300, 1_000, 3_000, 10_000)  # images that are scored exactly
ANCHORS = 1_024  # rows of the table
CAPTIONS = 10_000  # of training, whose words the anchors stand for
TRAINED = 20_000  # encodings the ranges of bytes are made from
IMAGES = 4_096  # scored at once where the best are sought: their products fit the cache

Candidates = Callable[[Encoded, int], np.ndarray]  # one encoded caption, k -> at most k images


@dataclass(frozen=True)
class Row:
    """A model with what its galleries are made from."""

    model: Retriever
    settings: Settings
    real: np.ndarray  # (m, R, d) float32 unit regions, zero where padded
    queries: Sequence[Encoded]  # captions of one item each, without padding
    words: np.ndarray  # (W, d) float32 unit words of training

    @property
    def pool(self) -> Callable[[Tensor], Tensor]:
        """Raises SpecError where the score is no late interaction."""
        if self.model.late_interaction is None:
            raise SpecError(f"the score of {type(self.model).__name__} is no late interaction")
        return self.model.late_interaction


def contender(model: Retriever, data: Prepared, settings: Settings, label: str) -> tuple[int, Measure]:
    """How many real images a row of late interaction is measured with, and how.

    Raises SpecError where it keeps no fragments.
    """
    model.eval()
    with torch.inference_mode():
        real = [_regions(images, label) for images in real_images(model, data, settings)]
        most = max(part.shape[1] for part in real)
        real = [np.pad(part, ((0, 0), (0, most - part.shape[1]), (0, 0))) for part in real]
        captions = spread(len(data.train.tokens.lengths), CAPTIONS)
        groups = encode_texts(model, data.train.tokens, settings, captions)
        words = np.concatenate([_words(in_float32(group.encoded)).flatten(0, 1).numpy() for group in groups])
        groups = encode_texts(model, data.ranked.tokens, settings, spread(len(data.ranked.tokens.lengths), QUERIES))
        rows = [
            (row, in_float32(group.encoded.select(slice(n, n + 1))))
            for group in groups
            for n, row in enumerate(group.rows)
        ]
    queries = [text for _, text in sorted(rows, key=lambda pair: pair[0])]
    row = Row(model, settings, np.concatenate(real), queries, words)
    return len(row.real), partial(measure, row)


def _regions(images: Encoded, label: str) -> np.ndarray:
    """(N, R, d), zero where padded.  Raises SpecError."""
    if images.contextual is None or images.mask is None:
        raise SpecError(f"{label} keeps no fragments that could be indexed")
    return images.contextual.masked_fill(~images.mask[..., None], 0.0).cpu().numpy()


def _words(text: Encoded) -> Tensor:
    """(B, L, d) of captions of one length."""
    if text.contextual is None:
        raise SpecError("captions keep no words")
    return text.contextual.cpu()


def fragments(regions: np.ndarray) -> Encoded:
    """(N, R, d) as a model reads them: what is zero is padding."""
    return Encoded(contextual=torch.from_numpy(regions), mask=torch.from_numpy(regions.any(2)))


def measure(row: Row, sizes: Sequence[int], build_s: float, watch: Watch = unwatched) -> list[Searched]:
    """Entries of an `IndexRecord`: the model itself and every index at every size."""
    faiss = library()
    faiss.omp_set_num_threads(row.settings.threads)
    kinds = {"muvera sq8": _muvera, "word anchors": _anchors}
    total = len(sizes) * (len(kinds) + 1)
    entries: list[Searched] = []
    _, count, dim = row.real.shape
    item = 6 * count * dim + len(Encoding(dim)) + ANCHORS  # float32, float16 and both indexes
    with torch.inference_mode():
        for place, size in enumerate(sizes):
            watch(Progress(f"exact, {size:,} images", place * (len(kinds) + 1), total))
            needed, limit = item * size, MEMORY_SHARE * available_bytes("cpu")
            if needed > limit:
                note = f"memory: {size:,} images need {needed / 2**30:.2f} GiB, {limit / 2**30:.2f} may be taken"
                entries += [absent(size, kind, note) for kind in ("exact", "best products", *kinds)]
                continue
            images = fragments(filled_up(row.real, size))
            judges = [_judge(row, images, text) for text in row.queries]
            for kind, search in (("exact", _model(row, images)), ("best products", _products(row, images))):
                entries += asked(Built({"": search}, 0.0, _bytes(images)), kind, size, row.queries, judges)
            kept = Encoded(contextual=images.contextual.half(), mask=images.mask)  # type: ignore[union-attr]
            for number, (kind, build) in enumerate(kinds.items(), start=1):
                watch(Progress(f"{kind}, {size:,} images", place * (len(kinds) + 1) + number, total))
                try:
                    entries += asked(build(faiss, row, images, kept, build_s), kind, size, row.queries, judges)
                except TooSlow as error:
                    entries.append(absent(size, kind, str(error)))
    watch(Progress("index", total, total))
    return entries


# Exact ---------------------------------------------------------------------------------------------------------------


def scores(row: Row, images: Encoded, text: Encoded) -> np.ndarray:
    """(N,) float32 of one caption, pooled from best products: the model's own but for rounding."""
    words = _words(text)[0]
    regions, mask = images.contextual, images.mask
    assert regions is not None
    assert mask is not None
    parts = [row.pool(best_products(words, regions[some], mask[some])) for some in blocks(len(regions), IMAGES)]
    return torch.cat(parts).numpy()


def _judge(row: Row, images: Encoded, text: Encoded) -> Judge:
    """Recall of the NEIGHBOURS best of one caption: of items that score no less than the last of them."""
    found = scores(row, images, text)
    wanted = min(NEIGHBOURS, len(found))
    bar = found[top_k(found, wanted)[-1]]
    good = np.flatnonzero(found >= bar - 1e-5 * abs(bar))  # two ways to sum the same products
    return lambda items: min(int(np.isin(items, good).sum()), wanted) / wanted


def _model(row: Row, images: Encoded) -> Search:
    search = ready(row.model, images, row.settings)
    return lambda text: search.best(search.scores(text))


def _products(row: Row, images: Encoded) -> Search:
    return lambda text: top_k(scores(row, images, text), NEIGHBOURS)


def _bytes(images: Encoded) -> int:
    return sum(tensor.nbytes for tensor in images.tensors().values())


# Two stages ----------------------------------------------------------------------------------------------------------


def reranked(row: Row, kept: Encoded, candidates: Candidates, k: int) -> Search:
    """The k candidates of a caption in the order of their exact scores, the best NEIGHBOURS of them."""

    def search(text: Encoded) -> np.ndarray:
        found = candidates(text, k)
        close = scores(row, in_float32(kept.select(torch.from_numpy(found))), text)
        return found[top_k(close, NEIGHBOURS)]

    return search


def _shortlists(row: Row, kept: Encoded, candidates: Candidates, build_s: float, stored: int) -> Built:
    size = len(kept)
    searches = {
        f"shortlist={k}": reranked(row, kept, candidates, k) for k in sorted({min(k, size) for k in SHORTLISTS})
    }
    return Built(searches, build_s, stored + _bytes(kept))


def _anchors(faiss: Any, row: Row, images: Encoded, kept: Encoded, limit_s: float) -> Built:
    """Raises TooSlow."""
    regions, mask = images.contextual, images.mask
    assert regions is not None
    assert mask is not None
    anchors, trained = timed(lambda: centres(faiss, row.words, ANCHORS), "cpu")
    table = Table(anchors, len(images))
    seconds = put_in(lambda rows: table.fill(rows, regions[rows], mask[rows]), len(images), limit_s - trained)

    def candidates(text: Encoded, k: int) -> np.ndarray:
        return top_k(table.scores(_words(text)[0], row.pool).numpy(), k)

    return _shortlists(row, kept, candidates, trained + seconds, table.nbytes)


def _muvera(faiss: Any, row: Row, images: Encoded, kept: Encoded, limit_s: float) -> Built:
    """Raises TooSlow."""
    regions, mask = images.contextual.numpy(), images.mask.numpy()  # type: ignore[union-attr]
    encoding = Encoding(regions.shape[2])
    index = faiss.IndexScalarQuantizer(len(encoding), faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    some = np.sort(np.random.default_rng(0).permutation(len(regions))[:TRAINED])
    _, trained = timed(lambda: index.train(encoding.images(regions[some], mask[some])), "cpu")
    seconds = put_in(
        lambda rows: index.add(encoding.images(regions[rows], mask[rows])), len(regions), limit_s - trained
    )

    def candidates(text: Encoded, k: int) -> np.ndarray:
        found = index.search(encoding.caption(_words(text)[0].numpy())[None], k)[1][0]
        return found[found >= 0]

    return _shortlists(row, kept, candidates, trained + seconds, stored_bytes(faiss, index))
