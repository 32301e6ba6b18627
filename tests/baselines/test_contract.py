"""What every method owes the harness, whoever wrote it: found by file name, so that a new one is held to it at once."""

from __future__ import annotations

from dataclasses import fields

import pytest

from harness import contract
from harness.protocol import Inputs
from harness.spec import registry
from tests import parameters
from tests.places import PLACES

LABELS = registry.labels()
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
    tensors = [getattr(side, f.name) for side in (moved.images, moved.texts) for f in fields(side)]
    assert {tensor.device.type for tensor in (*tensors, moved.image_index)} == {"meta"}


@pytest.fixture(scope="module")
def default_inputs() -> Inputs:
    return parameters.inputs()


@every_method
def test_the_number_of_trained_parameters_is_the_one_that_is_listed(label, default_inputs):
    found = parameters.count(label, default_inputs)
    assert label in registry.parameters(), "python -m tests.parameters counts it"
    assert found == registry.parameters()[label]


def test_no_count_is_left_of_a_method_that_is_gone():
    assert set(registry.parameters()) == set(LABELS)
