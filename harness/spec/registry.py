"""Rows by their labels: `file[:variant][+selfalign][+module...]`, as in `vsepp`, `scan:t2i-lse`, `vsrn+selfalign+efa`.

The same string is the flag, the row and the record's name.  Modules beside SelfAlign stand in the order of their names,
in whatever order they were written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.spec import pretrained
from harness.spec.job import Model, SpecError
from harness.spec.methods import SELFALIGN, Method, methods, modules
from harness.spec.methods import selfalign as selfalign
from harness.spec.names import fitted, nearest

Options = Mapping[str, Any]


def labels() -> tuple[str, ...]:
    """Every row that suites choose from: all variants of all methods, and every trainable independent host with
    SelfAlign.  Other modules, methods `ASIDE` and pretrained models are rows where they are named (`aside`)."""
    shown = [method for method in methods().values() if not method.aside and method.pretrained is None]
    rows = [label for method in shown for label in method.labels]
    hosts = [label for method in shown if _hosts(method, SELFALIGN) for label in method.labels]
    return (*rows, *(f"{host}+{SELFALIGN}" for host in hosts))


def aside(pattern: str) -> tuple[str, ...]:
    """The rows among which a pattern with modules beside SelfAlign chooses, or one that names a method standing aside.

    `vs*+efa` -> every host with that module; none for a pattern of neither kind.  A wildcard names no method: it does
    not reach one that stands aside.
    """
    base, *names = pattern.split("+")
    meant = [method for method in methods().values() if not method.aside or method.name == base.partition(":")[0]]
    if set(names) <= {SELFALIGN}:
        return tuple(
            "+".join((label, *names))
            for method in meant
            if method.aside and all(_hosts(method, name) for name in names)
            for label in method.labels
        )
    if not set(names) <= modules().keys() or len(set(names)) < len(names):
        return ()
    put = "+".join(_ordered(names))
    return tuple(
        f"{label}+{put}" for method in meant if all(_hosts(method, name) for name in names) for label in method.labels
    )


def canonical(pattern: str) -> str:
    """A pattern of rows with its modules in the order in which labels have them."""
    base, *names = pattern.split("+")
    known = set(names) <= modules().keys() and len(set(names)) == len(names)
    return "+".join((base, *_ordered(names))) if known else pattern


def _ordered(names: Sequence[str]) -> list[str]:
    """SelfAlign first, then by name; each once."""
    return [name for name in modules() if name in names]


def _hosts(method: Method, module: str) -> bool:
    """Whether a module can be put on a method: an independent one must have encoders that it can stand on, and none
    comes before encoders that are a stored row's."""
    on = modules()[module].on
    before = "fragments" in method.needs and not method.floor and not method.rows
    return method.family in on and (method.hosts if on == ("independent",) else before)


def parse(label: str) -> tuple[Method, str, tuple[str, ...]]:
    """`vsrn+efa+selfalign` -> (VSRN, "", ("selfalign", "efa")).  Raises SpecError with the nearest known names."""
    base, *names = label.split("+")
    name, _, variant = base.partition(":")
    method = methods().get(name)
    if method is None:
        rows = [*labels(), *(label for method in methods().values() if method.aside for label in method.labels)]
        raise SpecError(f"unknown method {name!r}{nearest(label, rows)}")
    for module in names:
        if module not in modules():
            raise SpecError(f"unknown module {module!r} in {label!r}{nearest(module, modules())}")
        if names.count(module) > 1:
            raise SpecError(f"{label!r} names module {module!r} twice")
    if variant not in method.variants:
        raise SpecError(f"{name} has no variant {variant!r}{nearest(label, method.labels)}")
    for module in names:
        if not _hosts(method, module):
            raise SpecError(f"{called(module)} cannot be put on {name}: {_why_not(method, module)}")
    return method, variant, tuple(_ordered(names))


def is_row(label: str) -> bool:
    """Whether a label, maybe a stored one of a method that is gone or of an ensemble, is a row today."""
    try:
        parse(label)
    except SpecError:
        return False
    return True


def called(module: str) -> str:
    """A module in a sentence."""
    return "SelfAlign" if module == SELFALIGN else module


def _why_not(method: Method, module: str) -> str:
    if method.family not in modules()[module].on:
        return "scores come from both sides together, there is no embedding of one side to align ahead of a query"
    if method.rows and modules()[module].on != ("independent",):
        options = " or ".join(f"{name}={method.options[name]}+{module}" for name in method.rows)
        return f"its encoder is a stored row, and frozen; put it on that row ({options})"
    return f"it has no encoder that {called(module)} could stand on (HOSTS)"


def _resolved(method: Method, changes: Options) -> dict[str, Any]:
    """Defaults with changes; a name or a type that does not fit raises SpecError."""
    where, defaults = method.name, method.options
    merged = dict(defaults)
    for name, value in changes.items():
        if name not in defaults:
            raise SpecError(f"{where} has no option {name!r}{nearest(name, defaults)}")
        merged[name] = fitted(value, defaults[name], f"{where}.{name}")
    return {name: value for name, value in merged.items() if name not in method.added or value != defaults[name]}


def _check_rows(method: Method, options: Options) -> None:
    """An option that names another row must name one.  Raises SpecError."""
    for name, apart in method.rows.items():
        if options[name] in apart:
            continue
        try:
            parse(options[name].partition("@")[0])
        except SpecError as error:
            raise SpecError(f"{method.name}.{name} is {', '.join(apart)} or a row: {error}") from None


def model(
    label: str,
    options: Options | None = None,
    selfalign_options: Options | None = None,
    module_options: Mapping[str, Options] | None = None,
) -> Model:
    """The resolved model of a row: every option written out, with the recipes it was built by.

    module_options: those of the modules beside SelfAlign, by their names.  Raises SpecError.
    """
    method, variant, names = parse(label)
    told = {**(module_options or {}), **({SELFALIGN: selfalign_options} if selfalign_options else {})}
    for name, changes in told.items():
        if changes and name not in names:
            raise SpecError(f"{label} has no {called(name)} module to set {', '.join(changes)} on; use {label}+{name}")
    resolved = {name: _resolved(modules()[name], told.get(name, {})) for name in names}
    own = _resolved(method, {**method.variants[variant], **(options or {})})
    for where, given in ((method, own), *((modules()[name], chosen) for name, chosen in resolved.items())):
        _check_rows(where, given)
    return Model(
        method=method.name,
        variant=variant,
        options=own,
        selfalign=resolved.pop(SELFALIGN, None),
        recipes={method.name: method.recipe} | {name: modules()[name].recipe for name in names},
        origin=method.origin,
        modules=resolved,
        pretrained=method.pretrained.identity if method.pretrained else "",
    )


def parts(model: Model) -> Iterator[tuple[str, Method, Options]]:
    """The method, then SelfAlign and the modules on it: section of its options, what its file says, its options.

    Those that are gone, and ensembles, have none.
    """
    if model.method in methods():
        yield "model", methods()[model.method], model.options
    on = {**({} if model.selfalign is None else {SELFALIGN: model.selfalign}), **model.modules}
    yield from ((name, modules()[name], options) for name, options in on.items() if name in modules())


def wanted(model: Model) -> dict[str, str]:
    """Path of an option -> label of the row that it takes, `LABEL@KEY` where one of several was chosen."""
    found = {}
    for section, method, options in parts(model):
        for name, apart in method.rows.items():
            if options[name] not in apart:
                found[f"{section}.{name}"] = options[name]
    return found


def named(model: Model) -> str:
    """The row as its trials know it: the label, and what was chosen of a method or module that can take other rows.

    `vsepp+distilled (teacher=chan)`: what learns from two teachers is two rows, with trials of its own each.
    """
    told = []
    for section, method, options in parts(model):
        usual = {**method.options, **(method.variants.get(model.variant, {}) if section == "model" else {})}
        chosen = {name: value for name, value in options.items() if method.rows and value != usual[name]}
        told += [f"{name}={str(value).partition('@')[0]}" for name, value in sorted(chosen.items())]
    return f"{model.label} ({', '.join(told)})" if told else model.label


def floor(method: str) -> bool:
    """Whether a method, maybe one that is gone, is the floor that the others must beat."""
    return method in methods() and methods()[method].floor


def scale(label: str) -> bool:
    """Whether a row only shows what is little and what is much: the floor, and those of the family `scale`."""
    method = parse(label)[0]
    return method.floor or method.family == "scale"


def current(model: Model) -> bool:
    """Whether a stored model was built by today's recipes (a method that is gone is not current)."""
    if model.pretrained:
        return list(model.recipes.values()) == [pretrained.RECIPE]
    known = {name: method.recipe for name, method in (*methods().items(), *modules().items())}
    here = methods().get(model.method)  # none of an ensemble, which is as current as its members
    if here is None and model.origin:  # a plugin that is not here cannot have changed here
        known[model.method] = model.recipes[model.method]
    return (here is None or here.origin == model.origin) and all(
        known.get(name) == recipe for name, recipe in model.recipes.items()
    )
