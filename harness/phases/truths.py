"""What rows find of an extended ground truth: lists grow as long as it needs, both ways, and are kept.

Data whose images show identities bring one that nobody need ask for.  It looks at the whole gallery, so that the
(N, M) scores of a row are in memory at once, also of an independent one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from harness.data import sources
from harness.data.given.lists import Lists
from harness.data.given.matrix import Scores
from harness.data.split import DataError
from harness.data.truths import Truth, of_identities, read
from harness.measure import evaluator, identities, metrics
from harness.measure.extended import evaluate, positives
from harness.phases.opened import Row, by_split
from harness.progress import Start, Watch
from harness.protocol import Staged
from harness.record import Extended, ExtendedRecord
from harness.store import Store

LEAST = 50  # items of a list, as ECCV Caption needs


@dataclass(frozen=True)
class Retrieved:
    """Lists of the first k of every query, (N, k) captions and (M, k) images, and where asked for all scores."""

    i2t: np.ndarray
    t2i: np.ndarray
    scores: tuple[np.ndarray, np.ndarray] | None = None  # (N, M) for image queries, (N, M) for caption queries

    def tops(self) -> tuple[np.ndarray, np.ndarray]:
        return self.i2t, self.t2i


def phase(rows: Sequence[Row], store: Store, watch: Start, *, asked: Sequence[str]) -> Iterator[str]:
    """Every recorded row that is not yet measured by these truths, a line each.

    Those asked for, and the identities of the data where they tell any.  Raises DataError.
    """
    for part in by_split(rows):
        if asked or sources.shows_identities(part[0].job.data):
            yield from _of_split(part, store, watch, asked)


def _of_split(rows: Sequence[Row], store: Store, watch: Start, asked: Sequence[str]) -> Iterator[str]:
    split = rows[0].split
    truths = [read(name, split) for name in asked]
    most = [_positives(truth, way).most for truth in truths for way, some in truth.answers.items() if some]
    k = max([LEAST, *most])
    own = of_identities(split)
    if own is not None:
        truths.append(own)
    for row in rows if truths else ():
        label, known = row.job.model.label, store.extended(row.key)
        if known is not None and {t.digest for t in truths} <= {entry["digest"] for entry in known.truths}:
            continue
        found = _retrieved(row, k, watch(f"{row.name}, extended truths"), whole=own is not None)
        if isinstance(found, str):
            yield f"missing {row.name}: {found}"
            continue
        if own is not None and found.scores is None:
            yield f"missing {row.name}: its lists end before the gallery does and tell no places of all of an identity"
        new = [_measured(truth, found, label) for truth in truths if found.scores is not None or not truth.whole]
        if not new:
            continue
        kept = [] if known is None else [e for e in known.truths if e["digest"] not in {n["digest"] for n in new}]
        store.save_extended(ExtendedRecord(row.key, label, [*kept, *new]), *found.tops())
        parts = "; ".join(f"{entry['name']} {_said(entry)}" for entry in new)
        yield f"truths  {row.name}: {parts}"


def _positives(truth: Truth, way: str):
    return positives(truth.answers[way], truth.beyond[way])


def _measured(truth: Truth, row: Retrieved, label: str) -> Extended:
    numbers: dict[str, dict[str, float]] = {}
    queries: dict[str, float] = {}
    for way, first, other in (("i2t", row.i2t, row.t2i), ("t2i", row.t2i, row.i2t)):
        if truth.answers[way]:
            if truth.whole:
                numbers[way] = identities.summary(
                    identities.placed(partial(_of_query, row, way), _positives(truth, way))
                )
            else:
                try:
                    numbers[way] = evaluate(first, _positives(truth, way), len(other)).summary()
                except ValueError as error:
                    raise DataError(f"{label}, {truth.name}, {way}: {error}") from None
            queries[way] = len(truth.answers[way])
    return {"name": truth.name, "digest": truth.digest, "queries": queries, "percent": numbers, "note": truth.note}


def _of_query(row: Retrieved, way: str, query: int) -> np.ndarray:
    """(G,) scores of a query with its whole gallery."""
    assert row.scores is not None
    return row.scores[0][query] if way == "i2t" else row.scores[1][:, query]


def _said(entry: Extended) -> str:
    def told(of: Mapping[str, float]) -> str:
        mean = f"mAP {of['map']:.2f}, mINP {of['minp']:.2f}" if "map" in of else f"mAP@R {of['map_at_r']:.2f}"
        return f"{mean}, R@1 {of['r1']:.2f}"

    return ", ".join(f"{way} {told(of)}" for way, of in entry["percent"].items())


def _retrieved(row: Row, k: int, watch: Watch, *, whole: bool) -> Retrieved | str:
    """What a row retrieves, with all scores where `whole` and there are any; or why there is nothing."""
    found = row.open(watch)
    if isinstance(found, str):
        return found
    if isinstance(found, Lists):
        return Retrieved(found.i2t[:, :k], found.t2i[:, :k], _orders(found) if whole else None)
    if isinstance(found, Scores):
        return _of_scores(found.i2t, found.i2t if found.t2i is None else found.t2i, k)
    if whole or isinstance(found.model, Staged):
        matrix, _ = evaluator.scores(found.model, found.side, found.settings, watch)
        return _of_scores(matrix, matrix, k)
    ranked, _ = evaluator.retrieved(found.model, found.side, found.settings, k, watch)
    return Retrieved(ranked.i2t_top, ranked.t2i_top)


def _of_scores(i2t: np.ndarray, t2i: np.ndarray, k: int) -> Retrieved:
    """i2t, t2i: (N, M), which may be the same."""
    return Retrieved(metrics.top(i2t, k, 1), metrics.top(t2i, k, 0), (i2t, t2i))


def _orders(found: Lists) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores (N, M) that put items in the order of the lists; None where one is not of the whole gallery."""
    for lists, gallery in ((found.i2t, len(found.t2i)), (found.t2i, len(found.i2t))):
        if lists.shape[1] < gallery or (lists < 0).any():
            return None
    i2t, t2i = (-lists.argsort(1).astype(np.float32) for lists in (found.i2t, found.t2i))
    return i2t, t2i.T
