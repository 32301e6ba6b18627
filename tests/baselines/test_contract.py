"""What every method owes the harness, whoever wrote it: found by file name, so that a new one is held to it at once."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch

from harness import contract
from harness.protocol import ImageBatch
from harness.spec import registry
from models import pairs
from models.retrievers import Interactive
from tests.places import PLACES

TAUGHT = tuple(f"{host}+{name}" for name in registry.modules() if name != "selfalign" for host in ("vsepp", "camera"))
ASIDE = tuple(label for method in registry.methods().values() if method.aside for label in method.labels)
LABELS = (*registry.labels(), *ASIDE, *TAUGHT, "vsrn+selfalign+a-sdm+distilled+efa")
every_method = pytest.mark.parametrize("label", LABELS)


@every_method
@pytest.mark.parametrize("check", contract.CHECKS, ids=contract.said)
def test_every_method_keeps_the_contract(label, check):
    check(label)


@every_method
@pytest.mark.parametrize("device", PLACES[1:])
def test_a_device_changes_little(label, device):
    contract.check_a_device_changes_little(label, device)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("label", [x for x in registry.labels() if registry.parse(x)[0].family == "interactive"])
def test_a_few_hard_pairs_teach_the_same_one_by_one(monkeypatch, label):
    """As a large batch learns from its hardest negatives, and a small one from all of its pairs in one block."""
    torch.manual_seed(0)
    model, batch = contract.built(label).eval(), contract.pairs(label)
    assert isinstance(model, Interactive)
    found, together, asked = [], pairs._one_by_one, []
    monkeypatch.setattr(pairs, "_one_by_one", lambda *given: asked.append(len(given[1])) or together(*given))
    monkeypatch.setattr(pairs, "PIECES", math.inf)
    for block in (math.inf, 0):
        monkeypatch.setattr(pairs, "BLOCK", block)
        monkeypatch.setattr(pairs, "FUSED_BLOCK", block)
        scores = model.similarity(model.encode_images(batch.images), model.encode_texts(batch.texts))
        weights = list(model.parameters())
        grads = torch.autograd.grad(scores[0, 1] - 2 * scores[3, 2], weights, allow_unused=True)
        found.append([torch.zeros_like(w) if g is None else g for w, g in zip(weights, grads, strict=True)])
    assert sum(asked) == 2 * (2 - model.padded)  # one that takes no padding never learns from a block
    for block, apart in zip(*found, strict=True):
        torch.testing.assert_close(block, apart, rtol=1e-9, atol=1e-9)


def test_a_batch_moves_to_a_device_as_a_whole():
    moved = contract.pairs("gsmn").to("meta")
    values = [getattr(side, f.name) for side in (moved.images, moved.texts) for f in fields(side)]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    assert len(tensors) == 6
    assert {tensor.device.type for tensor in (*tensors, moved.image_index)} == {"meta"}
    pictures = ImageBatch(pixels=(torch.zeros(3, 2, 5), torch.zeros(3, 7, 1)), ids=("a", "b")).to("meta")
    assert [(len(pictures), picture.device.type) for picture in pictures.pixels] == [(2, "meta")] * 2
    assert pictures.ids == ("a", "b")


def test_a_late_interaction_that_is_none_is_told(monkeypatch):
    said = property(lambda _: lambda best: best.sum(0))
    monkeypatch.setattr(type(contract.built("chan")), "late_interaction", said)
    with pytest.raises(contract.Broken, match="of best products gives other scores than `similarity`"):
        contract.check_late_interaction_pools_best_products("chan")
    monkeypatch.setattr(type(contract.built("vsepp")), "late_interaction", said)
    with pytest.raises(contract.Broken, match="needs `contextual` fragments and their `mask`"):
        contract.check_late_interaction_pools_best_products("vsepp")
