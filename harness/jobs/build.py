"""From a resolved model of a job to a torch module."""

from __future__ import annotations

from importlib import import_module

import torch

from harness.jobs import registry
from harness.jobs.spec import Model
from harness.protocol import Inputs, Retriever
from models import selfalign


def build(model: Model, inputs: Inputs, seed: int) -> Retriever:
    """The module with weights drawn from `seed`; a host has the same weights with and without SelfAlign."""
    method = registry.methods()[model.method]
    module = import_module(method.module)
    torch.manual_seed(seed)
    retriever = module.build(inputs, module.Options(**model.options))
    if model.selfalign is not None:
        retriever = selfalign.SelfAlign(retriever, selfalign.Options(**model.selfalign))
    return retriever
