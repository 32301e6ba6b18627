"""Which rows the data can serve: what a method needs of an item against what the data offer."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from harness.spec import registry
from harness.spec.asked import Asked, Posed
from harness.spec.job import Job, Model, SpecError


def lacking(model: Model, offers: Collection[str]) -> tuple[str, ...]:
    """What a model needs and the data do not offer."""
    return tuple(need for need in registry.methods()[model.method].needed(model.options) if need not in offers)


def served(asked: Asked, offers: Collection[str]) -> tuple[Asked, list[str]]:
    """What can be run of what is asked for, and one line for every row that is left out.

    A question goes with its base; an arm that alone lacks something goes alone.  Raises SpecError
    where nothing is left.
    """

    def runs(job: Job) -> bool:
        return not lacking(job.model, offers)

    def of_question(posed: Posed) -> Posed:
        return replace(posed, arms={name: arm for name, arm in posed.arms.items() if runs(arm)})

    lines: dict[str, None] = {}
    for job in asked.jobs:
        if missing := lacking(job.model, offers):
            lines[f"Left out: {job.model.label} needs {' and '.join(missing)}, which {job.data.name} does not have"] = (
                None
            )
    left = replace(
        asked,
        rows=tuple(filter(runs, asked.rows)),
        posed=tuple(of_question(posed) for posed in asked.posed if runs(posed.base)),
    )
    if asked.jobs and not left.jobs:
        raise SpecError("; ".join(lines))
    return left, list(lines)
