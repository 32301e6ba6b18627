"""By which protocol a table was made, and which of its rows may be ranked together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.report.read.groups import Group
from harness.report.read.rows import Row

PROTOCOLS = {1000: "1K protocol", 5000: "5K protocol"}  # images of the gallery -> what the field calls it


def protocol(group: Group, folded: bool = False) -> str:
    """How queries were posed: `1K protocol`, `5K protocol`, `1K protocol, mean of 5 folds of 1000 images`, or plain."""
    sizes = folds(group)
    if folded and sizes is not None:
        plain = f"mean of {len(sizes)} folds of {sizes[0]} images"
        return f"{PROTOCOLS[sizes[0]]}, {plain}" if sizes[0] in PROTOCOLS else plain
    images = len(group.runs[0].usable_ranks.i2t) if group.runs else 0
    return PROTOCOLS.get(images, "whole gallery")


def folds(group: Group) -> list[int] | None:
    """Images of each fold, None where no record has folds."""
    run = next((run for run in group.runs if run.fold_accuracy), None)
    return None if run is None else np.bincount(run.usable_ranks.fold_of_image).tolist()


def ensemble_note(rows: Sequence[Row]) -> str:
    return ENSEMBLE_NOTE if any(row.is_ensemble for row in rows) else ""


def given_note(rows: Sequence[Row]) -> str:
    return GIVEN_NOTE if any(row.is_given for row in rows) else ""


GIVEN_NOTE = (
    "(given): embeddings or scores that were made elsewhere, by whatever training on whatever data; "
    "their encoders did not run here, and they are in no ranking."
)
ENSEMBLE_NOTE = (
    "* An ensemble: several trained models whose scores are averaged, at the cost of all of them. "
    "The best and the second best are marked among single runs and among ensembles apart."
)
