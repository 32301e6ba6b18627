"""CHAN's scores against the published implementation: hard assignment, and the mixture of words."""

from __future__ import annotations

import pytest
import torch

from baselines.interactive.chan import CHAN, Options
from harness.protocol import Encoded, Inputs


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (Options("vha", "lse", temperature=0.1), "score.VHA.LSE0.1"),
        (Options("vsa", "lse", temperature=0.1, mixture_temperature=0.1), "score.VSA0.1.LSE0.1"),
    ],
)
def test_scores_are_those_of_the_published_code(golden, options, name):
    arrays = golden("chan")
    regions, words = arrays["images"], arrays["captions"]
    mask = torch.arange(words.shape[1]) < arrays["cap_lens"][:, None]
    model = CHAN(Inputs(image_dim=2, regions=regions.shape[1], vocabulary=5, dim=regions.shape[2]), options)
    images = Encoded(contextual=regions, mask=torch.ones(regions.shape[:2], dtype=torch.bool))
    scores = model.similarity(images, Encoded(contextual=words, mask=mask))
    torch.testing.assert_close(scores, arrays[name], atol=2e-5, rtol=0)
