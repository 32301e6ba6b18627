"""GSMN: one pair at a time from the formulas, where regions are, what its options do."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.interactive.gsmn import GSMN, Options, PolarKernels, block_cosines, centres
from harness.protocol import ImageBatch, TextBatch
from models import fused
from tests import three_pairs
from tests.three_pairs import REGIONS, WORDS, batch, mask_of

INPUTS = replace(three_pairs.INPUTS, dim=15)  # which 5 blocks fill
SMALL = {"blocks": 5, "kernels": 2, "hidden": 6}


def sides() -> tuple[ImageBatch, TextBatch]:
    """Padding has no finite box."""
    pairs, generator = batch(dtype=torch.float64), torch.Generator().manual_seed(1)
    corner = 60 * torch.rand(3, 5, 2, generator=generator, dtype=torch.float64)
    boxes = torch.cat([corner, corner + 20], 2).masked_fill(~mask_of(REGIONS, 5)[..., None], torch.nan)
    sizes = torch.tensor([[100.0, 80.0]], dtype=torch.float64).expand(3, 2)
    return replace(pairs.images, boxes=boxes, sizes=sizes), pairs.texts


def model_of(**options) -> GSMN:
    torch.manual_seed(0)
    return GSMN(INPUTS, Options(**SMALL, **options)).double().eval()


def slow_matches(queries: Tensor, context: Tensor, lam: float) -> Tensor:
    """Block cosines of one pair.  queries: (Q, d), context: (C, d) -> (Q, blocks)."""
    products = F.leaky_relu(context @ queries.T, 0.1)
    weights = (lam * products / (products.norm(dim=1, keepdim=True) + 1e-8)).softmax(0)  # (C, Q)
    attended = weights.T @ context
    return torch.stack(
        [F.cosine_similarity(q.view(5, -1), a.view(5, -1)) for q, a in zip(queries, attended, strict=True)]
    )


def slow_edges(kernels: PolarKernels, centres: Tensor) -> Tensor:
    """Kernel weights by their published quotient.  centres: (R, 2) -> (R, R, K)."""
    rows = []
    for i in centres.tolist():
        for j in centres.tolist():
            dx, dy = i[0] - j[0], i[1] - j[1]
            turn = (math.atan2(dx, dy) - kernels.angle).abs()
            delta = torch.minimum(turn, (2 * math.pi - turn).abs())
            distance = math.hypot(dx, dy) - kernels.distance
            weight = torch.exp(-0.5 * distance**2 / (1e-14 + kernels.distance_width**2))
            weight = weight * torch.exp(-0.5 * delta**2 / (1e-14 + kernels.angle_width**2))
            rows.append(weight / weight.sum())
    return torch.stack(rows).view(len(centres), len(centres), -1)


def slow_score(model: GSMN, regions: Tensor, centres: Tensor, words: Tensor) -> Tensor:
    lam, alone = model.options.lam, model.options.propagate == "official"
    of_regions, of_words = slow_matches(regions, words, lam), slow_matches(words, regions, lam)
    edges = slow_edges(model.kernels, centres)
    maps = model.image_graph.project.weight.chunk(2)  # H_k, 5 -> 3 each
    image = []
    for i, own in enumerate(of_regions):
        read = [own if alone else m for m in of_regions]
        h = torch.cat([maps[k] @ sum(edges[i, j, k] * m for j, m in enumerate(read)) for k in range(2)])
        image.append(model.image_graph.out(model.image_graph.hidden(h).tanh()))
    relations = (lam * words @ words.T).softmax(1) * -0.7  # a kernel's scalar, which cancels
    relations = relations / relations.sum(1, keepdim=True)
    text = []
    for i, own in enumerate(of_words):
        read = [own if alone else m for m in of_words]
        h = model.text_graph.project.weight @ sum(relations[i, j] * m for j, m in enumerate(read))
        text.append(model.text_graph.out(model.text_graph.hidden(h + model.text_graph.project.bias).tanh()))
    return torch.stack(image).mean() + torch.stack(text).mean()


@pytest.mark.parametrize("passes", ["compiled", "plain"])
@pytest.mark.parametrize("options", [{"propagate": "neighbours"}, {"propagate": "official"}, {"lam": 3.0}], ids=str)
def test_all_pairs_at_once_equal_each_pair_alone(monkeypatch, options, passes):
    monkeypatch.setenv(fused.SWITCH, passes)
    model = model_of(**options)
    images, texts = model.encode_images(sides()[0]), model.encode_texts(sides()[1])
    scores = model.similarity(images, texts)
    centres = images.extras["centres"]
    for i, r in enumerate(REGIONS):
        for j, n in enumerate(WORDS):
            slow = slow_score(model, images.contextual[i, :r], centres[i, :r], texts.contextual[j, :n])
            torch.testing.assert_close(scores[i, j], slow, atol=1e-10, rtol=0)


def test_rubbish_in_padding_reaches_neither_scores_nor_gradients():
    model = model_of()
    encoded = model.encode_images(sides()[0]), model.encode_texts(sides()[1])
    spoilt = [replace(s, contextual=s.contextual.masked_fill(~s.mask[..., None], torch.nan)) for s in encoded]
    scores = model.similarity(*spoilt)
    torch.testing.assert_close(scores, model.similarity(*encoded))
    scores.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.kernels.parameters())


def test_neighbours_and_official_differ():
    sane, official = (
        model.similarity(model.encode_images(sides()[0]), model.encode_texts(sides()[1]))
        for model in (model_of(), model_of(propagate="official"))
    )
    assert not torch.allclose(sane, official)
    torch.testing.assert_close(sane[1, 2], official[1, 2])  # one region, one word: there is no neighbour


def test_blocks_of_features_are_compared_one_by_one():
    a, b = torch.tensor([3.0, 4.0, 1.0, 0.0, 0.0, 0.0]), torch.tensor([6.0, 8.0, 0.0, 5.0, 1.0, 1.0])
    cosines = block_cosines(torch.stack([a, b])[..., None], b[:, None], 3)
    torch.testing.assert_close(cosines.squeeze(2), torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))


def test_kernels_of_an_edge_share_it():
    kernels = PolarKernels(2)
    with torch.no_grad():
        kernels.distance.copy_(torch.tensor([0.0, 0.5]))
        kernels.angle.zero_()
        kernels.distance_width.fill_(0.1)
        kernels.angle_width.fill_(1.0)
    weights = kernels(torch.tensor([[[0.2, 0.0], [0.2, 0.5]]]))  # half a picture apart
    near = 1 / (1 + math.exp(-0.5 * 0.25 / 0.01))
    torch.testing.assert_close(weights[0, 0, 0], torch.tensor([near, 1 - near]))  # a region and itself
    torch.testing.assert_close(weights[0, 0, 1], torch.tensor([1 - near, near]))
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 2))


def test_an_angle_goes_around():
    kernels = PolarKernels(2)
    with torch.no_grad():
        kernels.angle.copy_(torch.tensor([-math.pi + 0.1, 0.0]))
        kernels.distance.zero_()
        kernels.distance_width.fill_(1.0)
        kernels.angle_width.fill_(1.0)
    direction = torch.tensor([math.sin(math.pi - 0.1), math.cos(math.pi - 0.1)])  # 0.2 from the first kernel
    share = kernels(torch.stack([direction, torch.zeros(2)])[None])[0, 0, 1, 0].item()
    assert share == pytest.approx(1 / (1 + math.exp((0.2**2 - (math.pi - 0.1) ** 2) / 2)), abs=1e-5)


def test_narrow_kernels_far_away_stay_finite():
    kernels = PolarKernels(3)
    with torch.no_grad():
        kernels.distance_width.fill_(1e-3)
        kernels.distance.copy_(torch.tensor([3.0, 4.0, 5.0]))  # every Gaussian underflows
    weights = kernels(torch.rand(2, 5, 2))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 5, 5))
    weights.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in kernels.parameters())


def test_centres_are_shares_of_the_picture_and_boxes_stay():
    boxes = torch.tensor([[[10.0, 20.0, 30.0, 40.0], [0.0, 0.0, 100.0, 50.0]]])
    before = boxes.clone()
    for _ in range(2):
        torch.testing.assert_close(
            centres(boxes, torch.tensor([[100.0, 50.0]])), torch.tensor([[[0.2, 0.6], [0.5, 0.5]]])
        )
    assert torch.equal(boxes, before)


def test_centres_of_a_grid_are_read_row_by_row():
    expected = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
    torch.manual_seed(0)
    model = GSMN(replace(INPUTS, regions=4), Options(**SMALL, boxes="grid"))
    images = ImageBatch(torch.randn(2, 4, 13), torch.ones(2, 4, dtype=torch.bool))
    assert torch.equal(model.encode_images(images).extras["centres"], expected.expand(2, 4, 2))


def test_missing_boxes_and_regions_that_are_no_cells_are_refused():
    with pytest.raises(ValueError, match=r"GSMN needs the place of every region, .* no _img_sizes\.npy beside"):
        model_of().encode_images(replace(sides()[0], sizes=None))
    model = GSMN(replace(INPUTS, regions=4), Options(**SMALL, boxes="grid"))
    with pytest.raises(ValueError, match="made for 4 regions, got 3"):
        model.encode_images(ImageBatch(torch.randn(2, 3, 13), torch.ones(2, 3, dtype=torch.bool)))
    with pytest.raises(ValueError, match="square number of regions, got 5"):
        GSMN(INPUTS, Options(**SMALL, boxes="grid"))


def test_a_width_that_blocks_do_not_fill_is_refused():
    with pytest.raises(ValueError, match=r"dim=15.*blocks=16"):
        GSMN(INPUTS, Options())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propagate": "all"}, r"'all'.*neighbours, official"),
        ({"boxes": "none"}, r"'none'.*stored, grid"),
        ({"lam": 0.0}, r"lam=0\.0"),
        ({"blocks": 0}, "blocks=0"),
        ({"kernels": 0}, "kernels=0"),
        ({"hidden": 30}, "hidden=30.*kernels=8"),
    ],
)
def test_impossible_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Options(**changes)
