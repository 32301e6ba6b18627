"""A job varied by path: `override(job, {"settings.lr": 2e-4, "selfalign.prototypes": 256, "model.layers": 2})`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from harness.jobs import registry
from harness.jobs.spec import Job, Settings, SpecError

SECTIONS = ("data", "settings", "model", "selfalign")


def override(job: Job, changes: Mapping[str, Any]) -> Job:
    """The job with every `section.field` of `changes` set.  Raises SpecError naming what does not exist or fit."""
    by_section: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for path, value in changes.items():
        section, _, name = path.partition(".")
        if section not in SECTIONS or not name:
            raise SpecError(f"unknown setting {path!r}{registry.nearest(path, paths(job))}")
        by_section[section][name] = value
    model = job.model
    if by_section["model"] or by_section["selfalign"]:
        model = registry.model(
            model.label,
            {**model.options, **by_section["model"]},
            {**(model.selfalign or {}), **by_section["selfalign"]},
        )
    return Job(
        data=_replaced(job.data, by_section["data"], "data"),
        model=model,
        settings=_replaced(job.settings, by_section["settings"], "settings"),
    )


def paths(job: Job) -> tuple[str, ...]:
    """Every path `override` knows for this job."""
    sections = {"settings": asdict(job.settings), "data": asdict(job.data), "model": job.model.options}
    sections["selfalign"] = job.model.selfalign or {}
    return tuple(f"{section}.{name}" for section, values in sections.items() for name in values)


def checked_settings(changes: Mapping[str, Any]) -> Settings:
    return _replaced(Settings(), changes, "settings")


def _replaced(value: Any, changes: Mapping[str, Any], where: str) -> Any:
    known = asdict(value)
    for name in changes:
        if name not in known:
            raise SpecError(f"{where} has no field {name!r}{registry.nearest(name, known)}")
    return replace(
        value, **{name: registry.fitted(new, known[name], f"{where}.{name}") for name, new in changes.items()}
    )
