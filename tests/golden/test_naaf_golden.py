"""NAAF's test-time scores against the published implementation, at three thresholds and in two precisions."""

from __future__ import annotations

import pytest
import torch

from baselines.interactive.naaf import NAAF, Options
from harness.protocol import Encoded, Inputs


@pytest.mark.parametrize("threshold", [0.0, 0.15, 0.3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_scores_are_those_of_the_published_code(golden, threshold, dtype, tolerance):
    arrays = golden("naaf")
    regions, words = arrays["images"].to(dtype), arrays["captions"].to(dtype)
    mask = torch.arange(words.shape[1]) < arrays["cap_lens"][:, None]
    inputs = Inputs(image_dim=2, regions=regions.shape[1], vocabulary=5, dim=regions.shape[2])
    model = NAAF(inputs, Options(lam=20.0, smoothing=5.0)).to(dtype).eval()
    model.safe_threshold.fill_(threshold)
    images = Encoded(contextual=regions, mask=torch.ones(regions.shape[:2], dtype=torch.bool))
    scores = model.similarity(images, Encoded(contextual=words, mask=mask))
    torch.testing.assert_close(scores.double(), arrays[f"score.thres{threshold}"], atol=tolerance, rtol=0)
