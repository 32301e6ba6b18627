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


def elsewhere_notes(rows: Sequence[Row]) -> list[str]:
    """What is to be known of rows that were trained elsewhere."""
    given = [GIVEN_NOTE] if any(row.is_given for row in rows) else []
    return given + ([_pretrained_note(rows)] if any(row.is_pretrained for row in rows) else [])


GIVEN_NOTE = (
    "(given): embeddings or scores that were made elsewhere, by whatever training on whatever data; "
    "their encoders did not run here, and they are in no ranking."
)


def _pretrained_note(rows: Sequence[Row]) -> str:
    """What stands beside pretrained rows, and what their two stages looked at."""
    lists = [
        f"{row.name} looks closely at {found['k_i2t']} captions of an image and {found['k_t2i']} images of a caption, "
        f"among which {found['i2t_ceiling']:.1f}% and {found['t2i_ceiling']:.1f}% have a right one"
        for row in rows
        for found in [row.runs[0].record.shortlist if row.runs else None]
        if found
    ]
    return " ".join([PRETRAINED_NOTE, *(f"{line}." for line in lists)])


PRETRAINED_NOTE = (
    "Pretrained rows, after all others, were trained elsewhere, on the pairs of image and text that stand beside them "
    "where somebody said; they are marked among themselves, and their parameters are those of the whole model."
)
ENSEMBLE_NOTE = (
    "* An ensemble: several trained models whose scores are averaged, at the cost of all of them. "
    "The best and the second best are marked among single runs and among ensembles apart."
)
