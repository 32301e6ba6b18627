"""The scorers of SGRAF and IMRAM against the published loops, and a step's gradients against those of the loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from harness.learn.build import build
from harness.protocol import Encoded, Inputs
from harness.spec import registry
from models.losses import hinge
from tests.references_reasoning import REFERENCES

IMAGES, REGIONS, DIM = 9, 36, 32
LENGTHS = torch.tensor([7, 20, 11, 7, 13, 9, 7, 20, 8])


def sides() -> tuple[Encoded, Encoded]:
    torch.manual_seed(0)
    mask = torch.arange(20) < LENGTHS[:, None]
    images = Encoded(
        embedding=F.normalize(torch.randn(IMAGES, DIM), dim=1),
        contextual=F.normalize(torch.randn(IMAGES, REGIONS, DIM), dim=2),
        mask=torch.ones(IMAGES, REGIONS, dtype=torch.bool),
    )
    words = F.normalize(torch.randn(len(LENGTHS), 20, DIM), dim=2) * mask[..., None]
    return images, Encoded(embedding=F.normalize(torch.randn(len(LENGTHS), DIM), dim=1), contextual=words, mask=mask)


def model_of(label: str):
    return build(registry.model(label), Inputs(image_dim=2, regions=REGIONS, vocabulary=5, dim=DIM), 0).eval()


@pytest.mark.parametrize("label", REFERENCES)
def test_scores_are_those_of_the_published_loop(label):
    model = model_of(label)
    with torch.inference_mode():
        torch.testing.assert_close(model.similarity(*sides()), REFERENCES[label](model, *sides()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("hardest", [True, False])
@pytest.mark.parametrize("label", REFERENCES)
def test_gradients_are_those_of_the_published_loop(label, hardest):
    """Of the hinge on the hardest negatives, where few pairs count, and on all of them; in double precision."""
    found = []
    for score in (lambda model, *both: model.similarity(*both), REFERENCES[label]):
        model = model_of(label).double()
        images, texts = (
            Encoded(side.embedding.double(), None, side.contextual.double().requires_grad_(), side.mask)
            for side in sides()
        )
        loss = hinge(score(model, images, texts), 0.2, hardest)
        loss.backward()
        found.append([images.contextual.grad, texts.contextual.grad, *(p.grad for p in model.parameters())])
    for ours, slow in zip(*found, strict=True):
        assert (ours is None) == (slow is None)
        if ours is not None and slow is not None:
            torch.testing.assert_close(ours, slow, atol=1e-5, rtol=1e-4)
