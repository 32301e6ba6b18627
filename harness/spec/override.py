"""A job varied by path: `override(job, {"settings.lr": 2e-4, "selfalign.prototypes": 256, "model.layers": 2})`.

Two switches have no section: `selfalign` (True, False) puts the module on its host or takes it off, and `control` makes
the host alone as large as SelfAlign would, in one respect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from harness.spec import registry
from harness.spec.job import CONTROLS, Job, Model, Settings, SpecError
from harness.spec.names import fitted, nearest

SECTIONS = ("data", "settings", "model", "selfalign")
SWITCHES = ("selfalign", "control")


def override(job: Job, changes: Mapping[str, Any]) -> Job:
    """The job with every `section.field` of `changes` set.  Raises SpecError naming what does not exist or fit."""
    by_section: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    switches = {path: value for path, value in changes.items() if path in SWITCHES}
    for path, value in changes.items():
        if path in switches:
            continue
        section, _, name = path.partition(".")
        if section not in SECTIONS or not name:
            raise SpecError(f"unknown setting {path!r}{nearest(path, paths(job))}")
        by_section[section][name] = value
    return Job(
        data=_replaced(job.data, by_section["data"], "data"),
        model=_model(job.model, by_section["model"], by_section["selfalign"], switches),
        settings=_replaced(job.settings, by_section["settings"], "settings"),
    )


def _model(
    model: Model, options: Mapping[str, Any], selfalign: Mapping[str, Any], switches: Mapping[str, Any]
) -> Model:
    """The model with its options set and its switches turned.  Raises SpecError."""
    if not (options or selfalign or switches):
        return model
    on = fitted(switches.get("selfalign", model.selfalign is not None), True, "selfalign")
    built = registry.model(
        model.host + (f"+{registry.SELFALIGN}" if on else ""),
        {**model.options, **options},
        {**((model.selfalign or {}) if on else {}), **selfalign},
    )
    return replace(built, control=_control(switches.get("control", model.control), built))


def _control(name: Any, model: Model) -> str:
    """Raises SpecError where it is not known, or cannot be put on this model."""
    if name not in ("", *CONTROLS):
        raise SpecError(f"control must be one of {', '.join(CONTROLS)}, got {name!r}")
    if name and (model.selfalign is not None or not registry.methods()[model.method].hosts):
        raise SpecError(f"control {name} is for a host without SelfAlign, {model.label} is not one")
    return name


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
            raise SpecError(f"{where} has no field {name!r}{nearest(name, known)}")
    return replace(value, **{name: fitted(new, known[name], f"{where}.{name}") for name, new in changes.items()})
