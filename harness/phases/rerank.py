"""Retrieve, then rerank: every independent row of a suite before every interactive one, once training is over.

A matrix of scores from a file reranks too; what it takes to look at a pair nobody knows, so it has accuracy alone.
One file per pair, kept as soon as it is found.  Accuracy is that of the stored weights on the test split; rows whose
scores are stored already (FOLDER/scores/KEY.npy) are not scored again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from harness.atomic import write_atomically
from harness.data.given.matrix import Scores
from harness.data.prepared import Prepared
from harness.data.split import DataError
from harness.measure import evaluator, rerank_cost
from harness.measure.cost import Contender
from harness.measure.provenance import machine
from harness.measure.rerank import curve, rerank, sizes
from harness.phases import given
from harness.phases.recorded import first_trained
from harness.phases.time import contender
from harness.progress import Start, Watch, counted
from harness.record import RecordError, RerankRecord
from harness.spec.given import family, reranks, same_split, scores_alone
from harness.spec.job import Job
from harness.store import Store

Pair = tuple[Job, Job]  # retriever, reranker


def phase(jobs: Sequence[Job], store: Store, watch: Start, *, rounds: int) -> Iterator[str]:
    """Measures the pairs that are not stored for this machine and number of samples.  Yields one line for people.

    Rows of all such pairs take turns within one process.  No rounds: accuracy alone.  Raises RecordError, DataError.
    """
    rows = first_trained([job for job in jobs if _takes_part(job)], store)
    rows = [job for job in rows if same_split(job.data, rows[0].data)]
    wanted = pairs(rows)
    if not wanted:
        yield "rerank  nothing to rerank: it takes a trained independent row, an interactive one and a test split"
        return
    data = given.prepared(rows)
    split = data.ranked.split
    ks = sizes(len(split.images), len(split.captions))
    missing = [pair for pair in wanted if not _is_current(store.rerank(*_keys(pair)), pair[1], ks, rounds)]
    if not missing:
        yield f"cached  reranking of {counted(len(wanted), 'pair')}"
        return
    shown = watch("retrieve, then rerank")
    found = {job.key: contender(job, data, store) for job in rows if any(job in pair for pair in missing)}
    rows_here = [row for row in found.values() if row is not None]
    ready = [pair for pair in missing if all(found[job.key] is not None or scores_alone(job.model) for job in pair)]
    samples = rerank_cost.measure(rows_here, data.ranked, ks, rounds, shown)
    with tempfile.TemporaryDirectory(prefix=".scores-", dir=store.folder) as scratch:
        scores = _Scores(data, store, Path(scratch), shown, {row.job.key: row for row in rows_here})
        for retriever, reranker in ready:
            store.save_rerank(
                RerankRecord(
                    key=f"{retriever.key}-{reranker.key}",
                    retriever=retriever.model.label,
                    reranker=reranker.model.label,
                    machine=machine(reranker.settings),
                    sizes={"images": len(split.images), "captions": len(split.captions)},
                    ks=list(ks),
                    accuracy=_accuracy((retriever, reranker), store, scores, ks, shown),
                    queries=[rerank_cost.queries_of(k) for k in ks],
                    samples_s=samples.get(retriever.key, {}) | samples.get(reranker.key, {}),
                )
            )
    lost = [j.model.label for j in rows if found.get(j.key, j) is None and not scores_alone(j.model)]
    without = f"; no weights for {', '.join(lost)} (--force trains again)" if lost else ""
    yield f"reranked {counted(len(ready), 'pair')}, shortlists of 1 to {ks[-1]}, {counted(rounds, 'round')}{without}"


def _takes_part(job: Job) -> bool:
    return job.data.ranked == "test" and (family(job.model) == "independent" or reranks(job.model))


def pairs(rows: Sequence[Job]) -> list[Pair]:
    """Every independent row before every one that reranks."""
    first = [job for job in rows if family(job.model) == "independent"]
    return [(retriever, reranker) for retriever in first for reranker in rows if reranks(reranker.model)]


def _keys(pair: Pair) -> tuple[str, str]:
    return pair[0].key, pair[1].key


def _is_current(found: RerankRecord | None, reranker: Job, ks: Sequence[int], rounds: int) -> bool:
    """Whether a stored curve has these shortlists and, where time is asked for, so many samples of this machine."""
    if found is None or tuple(found.ks) != tuple(ks):
        return False
    parts = ("retrieve",) if scores_alone(reranker.model) else ("retrieve", "rerank")
    stages = [f"{way}_{part}" for way in rerank_cost.WAYS for part in parts]
    timed = found.machine == machine(reranker.settings) and all(
        len(samples) == rounds for stage in stages for samples in found.samples_s.get(stage, [[]])
    )
    return timed or not rounds


def _accuracy(pair: Pair, store: Store, scores: _Scores, ks: Sequence[int], watch: Watch) -> dict[str, list[float]]:
    """Of the stored curve where only the time is not current."""
    stored = store.rerank(*_keys(pair))
    if stored is not None and tuple(stored.ks) == tuple(ks):
        return dict(stored.accuracy)
    owner = scores.data.ranked.split.caption_to_image
    first, second = (scores.of(job) for job in pair)
    try:
        return curve(rerank(first, second, owner, ks, watch))
    except ValueError as error:
        raise RecordError(f"{pair[0].model.label} reranked by {pair[1].model.label}: {error}") from None


@dataclass
class _Scores:
    """Score matrices of rows, memory-mapped: as stored, else computed once and kept in a folder that goes."""

    data: Prepared
    store: Store
    scratch: Path
    watch: Watch
    rows: dict[str, Contender]
    known: dict[str, np.ndarray] = field(default_factory=dict)

    def of(self, job: Job) -> np.ndarray:
        """(N, M) float32.  Raises RecordError where a stored matrix is none of this split."""
        if job.key not in self.known and scores_alone(job.model):
            self.known[job.key] = self._given(job)
        if job.key not in self.known:
            path = self.store.folder / "scores" / f"{job.key}.npy"
            if not path.exists():
                row = self.rows[job.key]
                matrix, _ = evaluator.scores(row.model, self.data.ranked, row.job.settings, self.watch)
                path = self.scratch / path.name
                write_atomically(path, partial(np.save, arr=matrix))
                del matrix
            self.known[job.key] = self._read(path)
        return self.known[job.key]

    def _given(self, job: Job) -> np.ndarray:
        """Raises DataError where images and captions ask by scores of their own."""
        found = given.read_row(job, self.data.ranked.split)
        assert isinstance(found, Scores)
        if found.t2i is not None:
            raise DataError(f"{job.model.label}: --rerank takes one matrix of scores, this row has one each way")
        return found.i2t

    def _read(self, path: Path) -> np.ndarray:
        split = self.data.ranked.split
        try:
            matrix = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise RecordError(f"scores/{path.name} cannot be read: {error}") from None
        expected = (len(split.images), len(split.captions))
        if matrix.shape != expected or matrix.dtype.kind != "f":
            raise RecordError(
                f"scores/{path.name} holds {matrix.dtype} of shape {matrix.shape}, expected scores of {expected}"
            )
        return matrix
