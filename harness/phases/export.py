"""What a stored row knows, as files that others read, and that come back as a row with the same ranks (`--row`)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from harness.atomic import atomic_path, write_atomically
from harness.data.prepared import prepare
from harness.data.split import Split
from harness.measure import evaluator
from harness.measure.scoring import prepared
from harness.phases.time import contender
from harness.precision import prepare_torch
from harness.protocol import Retriever
from harness.record import Ranks
from harness.spec.job import Job, SpecError
from harness.store import Store

FORMATS = ("csv", "parquet")


def write(job: Job, store: Store, out: Path, form: str) -> list[str]:
    """Writes the files; a line for each, the last says how to give them back.  Raises SpecError, DataError and OSError.

    Of an independent row `embeddings.npz`, of an interactive one `scores.npy` (N, M) and `ids.json`; of both
    `queries.csv` or `.parquet`, a line a query.
    """
    label, ranks = job.model.label, store.ranks(job.key)
    if ranks is None:
        raise SpecError(f"{label} has no ranks, run it again")
    prepare_torch(job.settings)
    data = prepare(job.data, job.settings)
    row = contender(job, data, store)
    if row is None:
        raise SpecError(f"{label} has no weights here (--force trains it again)")
    split, name = data.ranked.split, label.replace(":", "-").replace("+", "-")
    told = ids(split)
    if row.model.family == "independent":
        arrays = embeddings(row.model, data.ranked, job)
        path = out / "embeddings.npz"
        write_atomically(path, lambda file: np.savez(file, **arrays, **{key: np.array(v) for key, v in told.items()}))  # type: ignore[arg-type]
        scorer = "max" if arrays["images"].ndim == 3 else "dot"
        given = f"--row {name}-exported={path},scorer={scorer}"
    else:
        matrix, _ = evaluator.scores(row.model, data.ranked, job.settings)
        path, beside = out / "scores.npy", out / "ids.json"
        write_atomically(path, lambda file: np.save(file, matrix, allow_pickle=False))
        write_atomically(beside, lambda file: file.write(json.dumps(told).encode()))
        given = f"--row {name}-exported={path},ids={beside}"
    table = out / f"queries.{form}"
    frame = queries(ranks, split)
    with atomic_path(table) as temporary:
        if form == "csv":
            frame.to_csv(temporary, index=False)
        else:
            frame.to_parquet(temporary, index=False)
    return [f"exported  {label}: {path}, {table}", f"give back  {given}"]


def embeddings(model: Retriever, side: evaluator.Side, job: Job) -> dict[str, np.ndarray]:
    """images (N, d) or (N, K, d) and captions (M, d) in float32, with the block that all views share, if any.

    As the model scores them: joined into one vector they would round differently, and near ties fall otherwise.
    """
    with evaluator.evaluating(model):
        images, groups, _ = evaluator.encoded(model, side, job.settings)
        images, (texts,) = prepared(model, images, groups)
    found = {}
    for name, encoded in (("image", images), ("caption", texts.encoded)):
        assert encoded.embedding is not None
        found[f"{name}s"] = encoded.embedding.cpu().numpy()
        if encoded.shared is not None:
            found[f"{name}_shared"] = encoded.shared.cpu().numpy()
    return found


def ids(split: Split) -> dict[str, list[str]]:
    """As files of rows name them (`harness.data.given`)."""
    return {
        "image_ids": list(split.images.ids),
        "caption_ids": list(split.caption_ids),
        "image_of_caption": [split.images.ids[image] for image in split.caption_to_image],
    }


def queries(ranks: Ranks, split: Split) -> pd.DataFrame:
    """A line a query: direction, id, rank of the best right answer from 1, ids of what was retrieved first."""
    images, captions = np.array(split.images.ids), np.array(split.caption_ids)
    parts = [
        pd.DataFrame(
            {"direction": way, "query": asked, "rank": found + 1, "retrieved": [" ".join(row) for row in first]}
        )
        for way, asked, found, first in (
            ("i2t", images, ranks.i2t, captions[ranks.i2t_top]),
            ("t2i", captions, ranks.t2i, images[ranks.t2i_top]),
        )
    ]
    return pd.concat(parts, ignore_index=True)
