"""Rows by their labels: `file[:variant][+selfalign]`, as in `vsepp`, `scan:t2i-lse`, `vsrn+selfalign`.

The same string is the flag, the row and the record's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.spec.job import Model, SpecError
from harness.spec.methods import SELFALIGN, Method, methods, selfalign
from harness.spec.names import fitted, nearest


def labels() -> tuple[str, ...]:
    """Every row there can be: all variants of all methods, and every trainable independent host with SelfAlign."""
    rows = [label for method in methods().values() for label in method.labels]
    hosts = [label for method in methods().values() if method.hosts for label in method.labels]
    return (*rows, *(f"{host}+{SELFALIGN}" for host in hosts))


def parse(label: str) -> tuple[Method, str, bool]:
    """`scan:t2i-lse` -> (SCAN, "t2i-lse", no SelfAlign).  Raises SpecError with the nearest known names."""
    base, _, module = label.partition("+")
    name, _, variant = base.partition(":")
    method = methods().get(name)
    if method is None:
        raise SpecError(f"unknown method {name!r}{nearest(label, labels())}")
    if module not in ("", SELFALIGN):
        raise SpecError(f"unknown module {module!r} in {label!r}{nearest(module, [SELFALIGN])}")
    if variant not in method.variants:
        raise SpecError(f"{name} has no variant {variant!r}{nearest(label, method.labels)}")
    if module and not method.hosts:
        why = (
            "scores come from both sides together, there is no embedding of one side to align ahead of a query"
            if method.family == "interactive"
            else "it has no encoder that SelfAlign could stand on (HOSTS)"
        )
        raise SpecError(f"SelfAlign cannot be put on {name}: {why}")
    return method, variant, bool(module)


def _resolved(method: Method, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults with changes; a name or a type that does not fit raises SpecError."""
    where, defaults = method.name, method.options
    merged = dict(defaults)
    for name, value in changes.items():
        if name not in defaults:
            raise SpecError(f"{where} has no option {name!r}{nearest(name, defaults)}")
        merged[name] = fitted(value, defaults[name], f"{where}.{name}")
    return {name: value for name, value in merged.items() if name not in method.added or value != defaults[name]}


def model(
    label: str, options: Mapping[str, Any] | None = None, selfalign_options: Mapping[str, Any] | None = None
) -> Model:
    """The resolved model of a row: every option written out, with the recipes it was built by."""
    method, variant, with_module = parse(label)
    if selfalign_options and not with_module:
        raise SpecError(
            f"{label} has no SelfAlign module to set {', '.join(selfalign_options)} on; use {label}+{SELFALIGN}"
        )
    recipes = {method.name: method.recipe} | ({SELFALIGN: selfalign().recipe} if with_module else {})
    changes = {**method.variants[variant], **(options or {})}
    return Model(
        method=method.name,
        variant=variant,
        options=_resolved(method, changes),
        selfalign=_resolved(selfalign(), selfalign_options or {}) if with_module else None,
        recipes=recipes,
        origin=method.origin,
    )


def floor(method: str) -> bool:
    """Whether a method, maybe one that is gone, is the floor that the others must beat."""
    return method in methods() and methods()[method].floor


def current(model: Model) -> bool:
    """Whether a stored model was built by today's recipes (a method that is gone is not current)."""
    known = {name: method.recipe for name, method in methods().items()} | {SELFALIGN: selfalign().recipe}
    here = methods().get(model.method)  # none of an ensemble, which is as current as its members
    if here is None and model.origin:  # a plugin that is not here cannot have changed here
        known[model.method] = model.recipes[model.method]
    return (here is None or here.origin == model.origin) and all(
        known.get(name) == recipe for name, recipe in model.recipes.items()
    )
