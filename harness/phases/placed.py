"""A stored job on the data and the machine as they are here."""

from __future__ import annotations

from dataclasses import replace

from harness.data import sources
from harness.spec import registry
from harness.spec.job import Job, SpecError


def placed(job: Job, data: str, threads: int) -> Job:
    """The job on the data that a user names, unless they are embedded.  Raises SpecError."""
    embedded = sources.embedded(job.data.name, job.data.own)
    if not embedded and not data:
        raise SpecError(f"{job.model.label} was trained on {job.data.name}: name its folder by --data")
    if not registry.current(job.model):
        raise SpecError(f"{job.model.label} is stale: its recipe has changed since, run it again")
    path = "" if embedded else data
    settings = replace(job.settings, device="cpu", threads=threads)
    return replace(job, data=replace(job.data, path=path), settings=settings)
