"""Approximate search: how much faster than exact is it, and which neighbours does it miss?

The indexes are FAISS's own (Douze et al. 2024, `pip install 'selfalign-harness[index]'`); here they are fed and
measured, one query at a time on the threads of the settings.  Galleries larger than the data are filled up with
distractors made from real embeddings.  Such distractors lie closer together than real images would: approximate search
finds its way among them more easily, so its recall is optimistic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch

from harness.data.prepared import Prepared
from harness.measure.clock import timed
from harness.measure.cost import spread
from harness.measure.evaluator import encode_images, encode_texts, in_float32
from harness.measure.exact import ExactIndex, joined, top_k
from harness.measure.memory import available_bytes
from harness.measure.metrics import blocks
from harness.progress import Progress, Watch, unwatched
from harness.protocol import Encoded, Retriever
from harness.record import Searched
from harness.spec.job import Settings, SpecError

NEIGHBOURS = 10
QUERIES = 100  # captions asked, fewer where the split has fewer or a query takes long
QUERY_S, LEAST = 5.0, 10  # seconds after which no further query is asked, once so many were
BUILD_S = 60.0  # an index that takes longer is given up
CHUNK = 2_000  # items added between two looks at the clock
LINKS = 32  # of an HNSW node
EF_SEARCH = (16, 64, 256)  # nodes HNSW keeps in sight
PROBES = (1, 4, 16, 64)  # cells IVF looks into; there are about sqrt(items)
TRAINED = 50  # items per cell that IVF is trained on
MEMORY_SHARE = 0.5  # of what is available

MIXED, NOISE = (0.5, 1.0), 0.05  # share of the first of two embeddings, and noise relative to its length

Search = Callable[[Any], np.ndarray]  # a query, such as (d,) -> items found, best first, -1 where there are fewer
Judge = Callable[[np.ndarray], float]  # items found -> share of the NEIGHBOURS best that are among them


class TooSlow(Exception):
    """An index that could not be built within its time."""


@dataclass(frozen=True)
class Built:
    """An index with the settings it can be asked with."""

    searches: Mapping[str, Search]  # setting -> search
    build_s: float
    bytes: int


def library() -> Any:
    """FAISS.  Raises SpecError where it is not installed."""
    try:
        return import_module("faiss")
    except ImportError:
        raise SpecError("approximate search needs faiss: pip install 'selfalign-harness[index]'") from None


def vectors(encoded: Encoded, label: str) -> np.ndarray:
    """(N, d) float32, one vector an item whose inner products are the scores.  Raises SpecError where there is none."""
    embedding = joined(encoded).embedding
    if embedding is None:
        raise SpecError(f"{label} keeps fragments, not embeddings: there is nothing to index")
    if embedding.ndim == 3:
        raise SpecError(f"{label} keeps {embedding.shape[1]} views of an image, a FAISS index holds one vector an item")
    return np.ascontiguousarray(embedding.float().cpu().numpy())


Measure = Callable[[Sequence[int], float, Watch], list[Searched]]  # galleries, seconds to build -> entries


def contender(model: Retriever, data: Prepared, settings: Settings, label: str) -> tuple[int, Measure]:
    """How many real images a row of embeddings is measured with, and how.  Raises SpecError where it has none."""
    real, queries = embeddings(model, data, settings, label)
    return len(real), lambda sizes, build_s, watch: measure(real, queries, sizes, settings.threads, build_s, watch)


def real_images(model: Retriever, data: Prepared, settings: Settings) -> list[Encoded]:
    """Images of the ranked split, then of training, in float32."""
    sides = [data.ranked] if data.ranked is data.train else [data.ranked, data.train]
    return [in_float32(encode_images(model, side.split.images, settings)) for side in sides]


def embeddings(model: Retriever, data: Prepared, settings: Settings, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Real images, those of the ranked split first, then of training, (m, d); and caption queries, (q, d).

    Raises SpecError where the row has no such vectors.
    """
    model.eval()
    with torch.inference_mode():
        images = [vectors(found, label) for found in real_images(model, data, settings)]
        groups = encode_texts(model, data.ranked.tokens, settings, spread(len(data.ranked.tokens.lengths), QUERIES))
        order = np.argsort(np.concatenate([group.rows for group in groups]))
        queries = np.concatenate([vectors(in_float32(group.encoded), label) for group in groups])[order]
    return np.concatenate(images), queries


def described(real: int) -> str:
    """How galleries are made of so many real images."""
    low, high = MIXED
    return (
        f"{real:,} real images first (those of the ranked split, then of training), then mixtures of two of them, "
        f"{low} to {high} of the first, with noise of {NOISE} of its length, as long as the first; "
        "recall among such distractors is optimistic"
    )


def versions() -> dict[str, str | None]:
    return {"faiss": library().__version__, "numpy": np.__version__}


def filled_up(real: np.ndarray, size: int) -> np.ndarray:
    """A gallery of `size` items as `described` says, the same for the same real ones.

    real: (m, d), or (m, R, d) of fragments, which are mixed one by one; padding is zero and stays so.
    """
    if size <= len(real):
        return real[:size]
    rng = np.random.default_rng(0)
    gallery = np.empty((size, *real.shape[1:]), np.float32)
    gallery[: len(real)] = real
    for rows in blocks(size - len(real), 10_000):
        count = rows.stop - rows.start
        first, second = real[rng.integers(len(real), size=(2, count))]
        share = rng.uniform(*MIXED, size=(count, *[1] * (real.ndim - 1))).astype(np.float32)
        lengths = np.linalg.norm(first, axis=-1, keepdims=True)
        noise = rng.standard_normal(first.shape, dtype=np.float32) * (NOISE * lengths / np.sqrt(first.shape[-1]))
        mixed = share * first + (1 - share) * second + noise
        mixed *= lengths / np.maximum(np.linalg.norm(mixed, axis=-1, keepdims=True), 1e-12)
        gallery[len(real) + rows.start : len(real) + rows.stop] = mixed
    return gallery


def measure(
    real: np.ndarray,
    queries: np.ndarray,
    sizes: Sequence[int],
    threads: int,
    build_s: float = BUILD_S,
    watch: Watch = unwatched,
) -> list[Searched]:
    """Entries of an `IndexRecord`: exact search and every index at every size.  real: (m, d).  queries: (q, d)."""
    faiss = library()
    faiss.omp_set_num_threads(threads)
    entries: list[Searched] = []
    kinds: dict[str, Callable[[np.ndarray], Built]] = {
        "faiss flat": lambda gallery: _flat(faiss, gallery, build_s),
        "faiss hnsw": lambda gallery: _hnsw(faiss, gallery, build_s),
        "faiss ivf": lambda gallery: _ivf(faiss, gallery, build_s),
    }
    total = len(sizes) * (len(kinds) + 1)
    for place, size in enumerate(sizes):
        watch(Progress(f"exact, {size:,} items", place * (len(kinds) + 1), total))
        needed, limit = 3 * 4 * size * real.shape[1], MEMORY_SHARE * available_bytes("cpu")  # itself, an index, a graph
        if needed > limit:
            note = f"memory: {size:,} vectors need {needed / 2**30:.2f} GiB, {limit / 2**30:.2f} may be taken"
            entries += [absent(size, kind, note) for kind in ("exact", *kinds)]
            continue
        gallery = filled_up(real, size)
        exact = ExactIndex.stored(gallery, threads)
        judges = [partial(recall, gallery, query, bar=_bar(exact, query)) for query in queries[:QUERIES]]
        entries += asked(Built({"": _exactly(exact)}, 0.0, exact.nbytes), "exact", size, queries, judges)
        for number, (kind, build) in enumerate(kinds.items(), start=1):
            watch(Progress(f"{kind}, {size:,} items", place * (len(kinds) + 1) + number, total))
            try:
                entries += asked(build(gallery), kind, size, queries, judges)
            except TooSlow as error:
                entries.append(absent(size, kind, str(error)))
    watch(Progress("index", total, total))
    return entries


def absent(size: int, kind: str, note: str) -> Searched:
    return {
        "items": size,
        "index": kind,
        "setting": "",
        "recall": None,
        "p50_ms": None,
        "samples_ms": [],
        "build_s": None,
        "bytes": None,
        "note": note,
    }


# Asking --------------------------------------------------------------------------------------------------------------


def asked(
    built: Built, kind: str, size: int, queries: Sequence[Any] | np.ndarray, judges: Sequence[Judge]
) -> Iterator[Searched]:
    """An entry per setting: time of each query alone, and recall, of as many queries as there are judges."""
    for setting, search in built.searches.items():
        search(queries[0])  # warm-up
        samples: list[float] = []
        recalls: list[float] = []
        started = time.perf_counter()
        for query, judge in zip(queries, judges, strict=False):
            if len(samples) >= LEAST and time.perf_counter() - started > QUERY_S:
                break
            found, seconds = timed(partial(search, query), "cpu")
            samples.append(round(1000 * seconds, 5))
            recalls.append(judge(found))
        yield {
            "items": size,
            "index": kind,
            "setting": setting,
            "recall": float(np.mean(recalls)),
            "p50_ms": float(np.median(samples)),
            "build_s": built.build_s,
            "bytes": built.bytes,
            "samples_ms": samples,
            "note": "",
        }


def recall(gallery: np.ndarray, query: np.ndarray, found: np.ndarray, bar: float) -> float:
    """Share of the NEIGHBOURS best that were found: items that score no less than the last of them, `bar`."""
    found = found[found >= 0]
    scores = gallery[found] @ query
    tolerance = 1e-5 * max(abs(bar), 1e-12)  # two ways to sum the same products
    wanted = min(NEIGHBOURS, len(gallery))
    return min(int((scores >= bar - tolerance).sum()), wanted) / wanted


def _bar(exact: ExactIndex, query: np.ndarray) -> float:
    """The score of the last of the NEIGHBOURS best."""
    _, scores = exact.search(_text(query), NEIGHBOURS)
    return float(scores[-1])


def _exactly(exact: ExactIndex) -> Search:
    return lambda query: top_k(exact.scores(_text(query)), NEIGHBOURS)


def _text(query: np.ndarray) -> Encoded:
    return Encoded(embedding=torch.from_numpy(query[None]))


# Building ------------------------------------------------------------------------------------------------------------


def _flat(faiss: Any, gallery: np.ndarray, limit_s: float) -> Built:
    index = faiss.IndexFlatIP(gallery.shape[1])
    seconds = _add(index, gallery, limit_s)
    return Built({"": _searching(index)}, seconds, stored_bytes(faiss, index))


def _hnsw(faiss: Any, gallery: np.ndarray, limit_s: float) -> Built:
    index = faiss.IndexHNSWFlat(gallery.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    seconds = _add(index, gallery, limit_s)

    def wide(nodes: int) -> Search:
        return _searching(index, faiss.SearchParametersHNSW(efSearch=nodes))

    return Built({f"efSearch={nodes}": wide(nodes) for nodes in EF_SEARCH}, seconds, stored_bytes(faiss, index))


def _ivf(faiss: Any, gallery: np.ndarray, limit_s: float) -> Built:
    cells = max(1, round(len(gallery) ** 0.5))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(gallery.shape[1]), gallery.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1  # galleries may be small; FAISS would print a warning
    some = np.random.default_rng(0).permutation(len(gallery))[: TRAINED * cells]
    _, trained = timed(lambda: index.train(gallery[np.sort(some)]), "cpu")
    seconds = trained + _add(index, gallery, limit_s - trained)

    def deep(probes: int) -> Search:
        return _searching(index, faiss.SearchParametersIVF(nprobe=probes))

    probes = sorted({min(count, cells) for count in PROBES})
    return Built({f"nprobe={count} of {cells}": deep(count) for count in probes}, seconds, stored_bytes(faiss, index))


def _add(index: Any, gallery: np.ndarray, limit_s: float) -> float:
    """Fills an index.  Returns the seconds that took.  Raises TooSlow."""
    return put_in(lambda rows: index.add(gallery[rows]), len(gallery), limit_s)


def put_in(add: Callable[[slice], object], size: int, limit_s: float) -> float:
    """Calls `add` for rows that cover `size` items.  Returns the seconds that took.  Raises TooSlow."""
    started = time.perf_counter()
    for rows in blocks(size, CHUNK):
        if (spent := time.perf_counter() - started) > limit_s:
            share = f"{rows.start:,} of {size:,} items were in"
            raise TooSlow(f"time: not built after {spent:.0f} s, {share}")
        add(rows)
    return time.perf_counter() - started


def _searching(index: Any, parameters: Any = None) -> Search:
    return lambda query: index.search(query[None], NEIGHBOURS, params=parameters)[1][0]


def stored_bytes(faiss: Any, index: Any) -> int:
    """Of the index as it would be stored."""
    count = 0

    def write(part: bytes) -> None:
        nonlocal count
        count += len(part)

    writer = faiss.PyCallbackIOWriter(write)
    faiss.write_index(index, writer)
    del writer  # flushes
    return count
