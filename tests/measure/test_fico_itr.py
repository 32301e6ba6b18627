"""Recall and ranks beside those of another implementation, the package fico-itr."""

import numpy as np
import pytest

from harness.measure import metrics

PER_IMAGE = 5


def test_recall_and_ranks_are_those_of_another_implementation():
    package = pytest.importorskip("fico_itr")
    rng = np.random.default_rng(7)
    owner = np.arange(61).repeat(PER_IMAGE)
    scores = rng.normal(size=(61, 61 * PER_IMAGE))  # no ties, which it does not count against a model
    scores[owner, np.arange(len(owner))] += 1.5  # some of what is right comes first
    i2t, t2i, tied = metrics.ranks(scores, owner)
    assert tied == 0
    ours = metrics.summary(i2t, t2i)
    assert 50 < ours["rsum"] < 550
    found = package.instance_retrieval(scores, captions_per_image=PER_IMAGE)
    for way, theirs in zip(("i2t", "t2i"), found, strict=True):
        for k in (1, 5, 10):
            assert ours[f"{way}_r{k}"] == pytest.approx(theirs[f"R@{k}"], abs=1e-6)
        assert ours[f"{way}_meanr"] == pytest.approx(theirs["MeanR"], abs=1e-6)
