"""What every method owes the harness, whoever wrote it: found by file name, so that a new one is held to it at once."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from harness import contract
from harness.protocol import ImageBatch
from harness.spec import registry
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
