"""From a resolved model of a job to a torch module."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from itertools import chain
from types import ModuleType

import torch

from harness.protocol import Inputs, Retriever
from harness.spec import registry
from harness.spec.job import Data, Job, Model, Settings
from harness.spec.methods import Method
from harness.spec.override import override
from harness.spec.plugins import Plugin
from models import selfalign
from models.retrievers import Host, Independent
from models.width import PARTS, FinalWidth

FROM_FILE = "selfalign_plugin_"  # begins the name of the module of a plugin that is a file alone
STEPS = (1, 2, 4, 8, 16, 32, 64)  # a width may have to be a multiple of the heads of an attention


def build(model: Model, inputs: Inputs, seed: int, fragments_read: bool = True) -> Retriever:
    """The module with weights drawn from `seed`; a host has the same weights whatever is put on it.

    fragments_read: False where nobody but the model reads what it encodes: a host with nothing on it may then leave
    out what it fills for others.
    """
    if model.control == "width":
        inputs = replace(inputs, dim=PARTS * inputs.dim)
    if model.control == "parameters":
        inputs = replace(inputs, dim=matching_width(model, inputs))
    torch.manual_seed(seed)
    made = partial(_aligned, model, inputs)
    retriever = made()
    needs = retriever.needs
    for name, options in model.modules.items():
        module = import_module(f"models.modules.{name.replace('-', '_')}")
        retriever = module.put(Host(retriever, inputs, made), module.Options(**options))  # type: ignore[arg-type]
    retriever.needs = needs
    if isinstance(retriever, Independent) and not model.modules:  # of what SelfAlign or a control wraps, it reads some
        retriever.fragments_read = fragments_read
    return retriever


def _aligned(model: Model, inputs: Inputs) -> Retriever:
    """The host, as wide as a control makes it, or with SelfAlign."""
    host = aligned = _host(model, inputs)
    if model.control == "final-width":
        aligned = FinalWidth(host)  # type: ignore[arg-type]  # it checks
    elif model.selfalign is not None:
        aligned = selfalign.SelfAlign(host, selfalign.Options(**model.selfalign))  # type: ignore[arg-type]
    aligned.needs = host.needs
    return aligned


def matching_width(model: Model, inputs: Inputs) -> int:
    """The width d at which the host alone has about as many trained parameters as with SelfAlign at its own.

    The number grows with the width; of all widths the host can have the nearest is taken.
    """
    wanted = _parameters(selfalign.SelfAlign(_host(model, inputs), selfalign.Options(**model.matched)))  # type: ignore[arg-type]

    def parameters(width: int) -> int:
        return _parameters(_host(model, replace(inputs, dim=width)))

    step = next(step for step in STEPS if _possible(model, replace(inputs, dim=inputs.dim + step)))
    low, high = 0, 1  # in steps above the host's own width
    while parameters(inputs.dim + high * step) < wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if parameters(inputs.dim + middle * step) < wanted else (low, middle)
    widths = (inputs.dim + low * step, inputs.dim + high * step)
    return min(widths, key=lambda width: abs(parameters(width) - wanted))


def _host(model: Model, inputs: Inputs) -> Retriever:
    method = registry.methods()[model.method]
    if method.pretrained is not None:
        from harness.pretrained import rows  # transformers takes seconds to import, few runs need it

        host = rows.build(method.pretrained, inputs)
        host.needs = method.needed(model.options)
        return host
    module = imported(method)
    others = {option: _other(model, option, inputs) for option in method.rows}
    host = module.build(inputs, module.Options(**model.options), **others)
    stood_on = chain.from_iterable(other.needs for other in others.values())
    host.needs = tuple(dict.fromkeys((*method.needed(model.options), *stood_on)))
    return host


def _other(model: Model, option: str, inputs: Inputs) -> Retriever:
    """A row that a method stands on, before its stored weights are taken; draws nothing of the method's own weights."""
    usual = Job(Data(), registry.model(model.options[option].partition("@")[0]), Settings())
    other = override(usual, model.stands_on.get(f"model.{option}", {})).model
    with torch.random.fork_rng(devices=[]):
        return build(other, inputs, seed=0)


def imported(method: Method) -> ModuleType:
    """The module of a method.  What a plugin prints goes to stderr; raises ImportError where it ends the process."""
    plugin = method.plugin
    if plugin is None:
        return import_module(method.module)
    try:
        with redirect_stdout(sys.stderr):
            return import_module(plugin.module) if plugin.module else _from_file(plugin)
    except SystemExit as end:
        raise ImportError(f"{plugin.giver} ends the process when it is imported (exit {end.code})") from end


def _from_file(plugin: Plugin) -> ModuleType:
    name = f"{FROM_FILE}{plugin.origin.rpartition(' ')[2]}_{plugin.name}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, plugin.path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _possible(model: Model, inputs: Inputs) -> bool:
    try:
        _host(model, inputs)
    except ValueError:
        return False
    return True


def _parameters(retriever: Retriever) -> int:
    return sum(p.numel() for p in retriever.parameters() if p.requires_grad)
