"""A job varied by path: `override(job, {"settings.lr": 2e-4, "selfalign.prototypes": 256, "model.layers": 2})`.

A module is a section of its own, by its name in a label (`selfalign.`, `a-sdm.`).  Switches have no section: a module's
name (True, False) puts it on its host or takes it off, and `control` makes the host alone as large as SelfAlign would,
in one respect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from harness.spec import registry
from harness.spec.job import CONTROLS, Job, Model, Settings, SpecError
from harness.spec.names import fitted, nearest

SECTIONS = ("data", "settings", "model")
CONTROL = "control"
UPDATES, WARMUP = "settings.updates", "settings.warmup_updates"


def override(job: Job, changes: Mapping[str, Any]) -> Job:
    """The job with every `section.field` of `changes` set.  Raises SpecError naming what does not exist or fit."""
    by_section: dict[str, dict[str, Any]] = {section: {} for section in (*SECTIONS, *registry.modules())}
    switches = {path: value for path, value in changes.items() if path == CONTROL or path in registry.modules()}
    for path, value in changes.items():
        if path in switches:
            continue
        section, _, name = path.partition(".")
        if section not in by_section or not name:
            raise SpecError(f"unknown setting {path!r}{nearest(path, paths(job))}")
        by_section[section][name] = value
    return Job(
        data=_replaced(job.data, by_section["data"], "data"),
        model=_model(job.model, by_section, switches),
        settings=_replaced(job.settings, by_section["settings"], "settings"),
    )


def _model(model: Model, changes: Mapping[str, Mapping[str, Any]], switches: Mapping[str, Any]) -> Model:
    """The model with its options and those of its modules set, and its switches turned.  Raises SpecError."""
    on = _modules(model)
    told = {name: changes[name] for name in registry.modules()}
    if not (changes["model"] or any(told.values()) or switches):
        return model
    names = [name for name in told if fitted(switches.get(name, name in on), True, name)]
    options = {name: {**(on.get(name, {}) if name in names else {}), **told[name]} for name in told}
    selfalign = options.pop(registry.SELFALIGN)
    label = "+".join((model.host, *names))
    built = registry.model(label, {**model.options, **changes["model"]}, selfalign, options)
    control = _control(switches.get(CONTROL, model.control), built)
    matched = (model.selfalign or model.matched) if control == "parameters" else {}
    return replace(built, control=control, matched=matched)


def _modules(model: Model) -> dict[str, Mapping[str, Any]]:
    """What is on the host, SelfAlign among it, by name."""
    return {**({} if model.selfalign is None else {registry.SELFALIGN: model.selfalign}), **model.modules}


def _control(name: Any, model: Model) -> str:
    """Raises SpecError where it is not known, or cannot be put on this model."""
    if name not in ("", *CONTROLS):
        raise SpecError(f"control must be one of {', '.join(CONTROLS)}, got {name!r}")
    if name and (_modules(model) or not registry.methods()[model.method].hosts):
        raise SpecError(f"control {name} is for a host without SelfAlign, {model.label} is not one")
    return name


def yielding(usual: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of the usual settings where `told` states the length or the hinge's warm-up in its own unit.

    A length in epochs, or a warm-up in epochs, stands in for the one in updates; another length in updates keeps the
    share of it that is the warm-up.
    """
    left = dict(usual)
    length = told.get(UPDATES, 0 if "settings.epochs" in told else left.get(UPDATES, 0))
    if not length:
        left.pop(UPDATES, None)
    if not length or "settings.warmup_epochs" in told:
        left.pop(WARMUP, None)
    if WARMUP in left:
        left[WARMUP] = left[WARMUP] * length // left[UPDATES]
    return left


def paths(job: Job) -> tuple[str, ...]:
    """Every path `override` knows for this job."""
    sections = {"settings": asdict(job.settings), "data": asdict(job.data), "model": job.model.options}
    sections |= _modules(job.model)
    return tuple(f"{section}.{name}" for section, values in sections.items() for name in values)


def checked_settings(changes: Mapping[str, Any]) -> Settings:
    return _replaced(Settings(), changes, "settings")


def _replaced(value: Any, changes: Mapping[str, Any], where: str) -> Any:
    if not changes:
        return value
    known = {f.name: getattr(value, f.name) for f in fields(value)}
    for name in changes:
        if name not in known:
            raise SpecError(f"{where} has no field {name!r}{nearest(name, known)}")
    return replace(value, **{name: fitted(new, known[name], f"{where}.{name}") for name, new in changes.items()})
