"""The hinge against VSE++'s."""

import pytest

from models.losses import hinge


def test_hinge_equals_the_published_one(golden):
    file = golden("hinge_and_ranks")
    assert float(hinge(file["scores"], margin=0.2, hardest=True)) == pytest.approx(float(file["hinge_max"]), abs=1e-4)
    assert float(hinge(file["scores"], margin=0.2, hardest=False)) == pytest.approx(float(file["hinge_sum"]), abs=1e-4)
