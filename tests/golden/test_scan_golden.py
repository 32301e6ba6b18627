"""SCAN's scores against the published implementation: both directions, four norms, four aggregations."""

from __future__ import annotations

import pytest
import torch

from baselines.interactive.scan import SCAN, Options
from harness.protocol import Encoded, Inputs

MULTIPLIERS = {"t2i": (9.0, 6.0), "i2t": (4.0, 5.0)}  # lam, mu
AGGREGATIONS = {"LogSumExp": "lse", "Mean": "mean", "Max": "max", "Sum": "sum"}


@pytest.mark.parametrize("direction", MULTIPLIERS)
@pytest.mark.parametrize("norm", ["clipped_l2norm", "l2norm", "softmax", "no_norm"])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_scores_are_those_of_the_published_code(golden, direction, norm, aggregation):
    arrays = golden("scan")
    regions, words = arrays["images"], arrays["captions"]
    mask = torch.arange(words.shape[1]) < arrays["cap_lens"][:, None]
    lam, mu = MULTIPLIERS[direction]
    inputs = Inputs(image_dim=2, regions=regions.shape[1], vocabulary=5, dim=regions.shape[2])
    model = SCAN(inputs, Options(direction, AGGREGATIONS[aggregation], lam, mu, norm))
    images = Encoded(contextual=regions, mask=torch.ones(regions.shape[:2], dtype=torch.bool))
    scores = model.similarity(images, Encoded(contextual=words, mask=mask))
    torch.testing.assert_close(scores, arrays[f"{direction}.{norm}.{aggregation}"], atol=1e-5, rtol=0)
