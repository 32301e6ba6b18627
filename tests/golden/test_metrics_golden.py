"""Ranks and recalls against VSE++'s evaluation."""

import numpy as np
import pytest

from harness.measure import metrics


def test_ranks_and_recalls_equal_the_published_ones(golden):
    file = {name: tensor.numpy(force=True) for name, tensor in golden("hinge_and_ranks").items()}
    images, captions = file["sims"].shape
    i2t, t2i, tied = metrics.ranks(file["sims"], np.arange(captions) // (captions // images))
    assert i2t.tolist() == file["i2t_ranks"].tolist()
    assert t2i.tolist() == file["t2i_ranks"].tolist()
    assert tied == 0
    found = metrics.summary(i2t, t2i)
    for way in ("i2t", "t2i"):
        ours = [found[f"{way}_{name}"] for name in ("r1", "r5", "r10", "medr", "meanr")]
        assert ours == pytest.approx(file[f"{way}_r1_r5_r10_medr_meanr"], abs=1e-9)
