"""IMRAM's scores against the published implementation: every step of both directions, and their sum."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from baselines.interactive.imram import IMRAM, Options
from harness.protocol import Encoded, Inputs

PUBLISHED = {"text": "t2i", "image": "i2t"}


@pytest.fixture
def published(golden) -> tuple[IMRAM, Encoded, Encoded, dict[str, Tensor]]:
    """The model with the published weights, images, captions, and all arrays."""
    arrays = dict(golden("imram"))
    regions, words = arrays["images"], arrays["captions"]
    mask = torch.arange(words.shape[1]) < arrays["cap_lens"][:, None]
    inputs = Inputs(image_dim=2, regions=regions.shape[1], vocabulary=5, dim=regions.shape[2])
    model = IMRAM(inputs, Options("full", steps=3, lam=9.0, memory_norm=True)).eval()
    for side, name in PUBLISHED.items():
        update = {
            f"update.{part}": torch.cat([arrays[f"w.gate_{name}.{part}"], arrays[f"w.linear_{name}.{part}"]])
            for part in ("weight", "bias")
        }
        model.matching[side].load_state_dict(update)
    images = Encoded(contextual=regions, mask=torch.ones(regions.shape[:2], dtype=torch.bool))
    return model, images, Encoded(contextual=words, mask=mask), arrays


def test_every_step_is_that_of_the_published_code(published):
    model, images, texts, arrays = published
    text_steps = model.matching["text"](queries=texts, context=images)
    image_steps = model.matching["image"](queries=images, context=texts).mT
    torch.testing.assert_close(text_steps.double(), arrays["text_steps"], atol=2e-5, rtol=0)
    torch.testing.assert_close(image_steps.double(), arrays["image_steps"], atol=2e-5, rtol=0)


def test_the_full_score_is_that_of_the_published_code(published):
    model, images, texts, arrays = published
    torch.testing.assert_close(model.similarity(images, texts).double(), arrays["full"], atol=2e-5, rtol=0)
