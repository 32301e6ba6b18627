"""What is kept of a model's weights is what would be computed anew."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.gpo import GPO
from models.kept import kept


@pytest.fixture
def layer() -> nn.Linear:
    return nn.Linear(3, 2).eval()


def asked(layer: nn.Module, made: list[int], key: str = "") -> int:
    """How often the value was computed when it is asked for once more."""
    return kept(layer, key, lambda: made.append(0) or len(made))  # type: ignore[func-returns-value]


@torch.inference_mode()
def test_a_value_is_computed_once_for_each_key(layer):
    made: list[int] = []
    assert [asked(layer, made), asked(layer, made), asked(layer, made, "other"), asked(layer, made)] == [1, 1, 2, 1]


def test_a_value_is_computed_anew_when_weights_have_changed(layer):
    made: list[int] = []
    with torch.inference_mode():
        assert asked(layer, made) == 1
    with torch.no_grad():
        layer.bias.add_(1)
    with torch.inference_mode():
        assert asked(layer, made) == 2
    layer.load_state_dict(layer.state_dict())
    with torch.inference_mode():
        assert asked(layer, made) == asked(layer, made) == 3
    layer.weight.data = layer.weight.data.clone()
    with torch.inference_mode():
        assert asked(layer, made) == 4
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert asked(layer, made) == 5


def test_nothing_is_kept_in_training_and_with_gradients(layer):
    made: list[int] = []
    assert [asked(layer, made), asked(layer, made)] == [1, 2]
    with torch.inference_mode():
        assert [asked(layer.train(), made), asked(layer, made)] == [3, 4]


@torch.inference_mode()
def test_weights_whose_changes_nobody_counts_keep_nothing():
    layer, made = nn.Linear(3, 2).eval(), []
    assert [asked(layer, made), asked(layer, made)] == [1, 2]


def test_what_is_kept_is_no_part_of_the_state(layer):
    before = list(layer.state_dict())
    with torch.inference_mode():
        asked(layer, [])
    assert list(layer.state_dict()) == before


def test_one_set_is_pooled_as_among_others():
    pooling = GPO().eval()
    x, mask = torch.randn(3, 7, 5), torch.arange(7) < torch.tensor([[7], [2], [4]])
    whole = pooling(x, mask)
    with torch.inference_mode():
        for _ in range(2):  # the second time with weights that were kept
            for item in range(3):
                torch.testing.assert_close(pooling(x[item : item + 1], mask[item : item + 1]), whole[item : item + 1])
