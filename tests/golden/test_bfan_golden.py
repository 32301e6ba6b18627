"""BFAN's scores against the published implementation, in both of its modes."""

from __future__ import annotations

import pytest
import torch

from baselines.interactive.bfan import BFAN, Options
from harness.protocol import Encoded, Inputs


@pytest.mark.parametrize("focus", ["equal", "prob"])
def test_scores_are_those_of_the_published_code(golden, focus):
    arrays = golden("bfan")
    regions, words = arrays["images"], arrays["captions"]
    mask = torch.arange(words.shape[1]) < arrays["cap_lens"][:, None]
    inputs = Inputs(image_dim=2, regions=regions.shape[1], vocabulary=5, dim=regions.shape[2])
    model = BFAN(inputs, Options(focus, lam=20.0))
    images = Encoded(contextual=regions, mask=torch.ones(regions.shape[:2], dtype=torch.bool))
    scores = model.similarity(images, Encoded(contextual=words, mask=mask))
    torch.testing.assert_close(scores, arrays[f"score.{focus}"], atol=1e-5, rtol=0)
