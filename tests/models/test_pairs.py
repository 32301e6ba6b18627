"""Scores of all pairs that keep nothing for the backward pass: values and gradients against the plain way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from harness.protocol import Encoded
from models import pairs
from models.pairs import PairModel, pair_scores, tiles

IMAGES, CAPTIONS, REGIONS, WORDS, DIM = 5, 7, 3, 4, 2
LENGTHS = torch.tensor([2, 4, 1, 2, 3, 2, 4])


class Bilinear(nn.Module):
    """A score that every input of a pair moves: embeddings, fragments, and a map between them."""

    def __init__(self) -> None:
        super().__init__()
        self.between = nn.Linear(DIM, DIM)
        self.unused = nn.Parameter(torch.ones(1))
        self.frozen = nn.Parameter(torch.tensor(1.3), requires_grad=False)

    def every(self, images: Encoded, texts: Encoded) -> Tensor:
        seen = self.between(images.contextual).tanh()  # (X, R, d)
        fits = torch.einsum("xrd,yld->xyrl", seen, texts.contextual).exp().mean((2, 3))
        return self.frozen * fits + images.embedding @ texts.embedding.T

    def matched(self, images: Encoded, texts: Encoded) -> Tensor:
        seen = self.between(images.contextual).tanh()
        fits = torch.einsum("prd,pld->prl", seen, texts.contextual).exp().mean((1, 2))
        return self.frozen * fits + (images.embedding * texts.embedding).sum(1)


def sides() -> tuple[Encoded, Encoded]:
    torch.manual_seed(0)
    images = Encoded(embedding=torch.randn(IMAGES, DIM), contextual=torch.randn(IMAGES, REGIONS, DIM))
    mask = torch.arange(WORDS) < LENGTHS[:, None]
    words = torch.randn(CAPTIONS, WORDS, DIM).masked_fill(~mask[..., None], torch.nan)  # nobody may read padding
    texts = Encoded(embedding=torch.randn(CAPTIONS, DIM), contextual=words, mask=mask)
    return images, texts


def model_of(size: int = 4) -> tuple[Bilinear, PairModel]:
    torch.manual_seed(1)
    module = Bilinear()
    return module, PairModel(module.every, module.matched, list(module.parameters()), lambda _: size)


def plain(module: Bilinear, images: Encoded, texts: Encoded) -> Tensor:
    """One pair at a time."""
    return torch.cat(
        [
            torch.stack(
                [module.every(images.select(slice(i, i + 1)), text)[0, 0] for i in range(IMAGES)],
            )[:, None]
            for j, length in enumerate(LENGTHS.tolist())
            for text in [texts.select(slice(j, j + 1)).trim(length)]
        ],
        1,
    )


def gradients(score: Callable[[Bilinear, Encoded, Encoded], Tensor], wanted: Tensor) -> tuple[Tensor, list[Tensor]]:
    module, _ = model_of()
    images, texts = sides()
    leaves = [images.embedding, images.contextual, texts.embedding, texts.contextual]
    for leaf in leaves:
        leaf.requires_grad_()
    scores = score(module, images, texts)
    (scores * wanted).sum().backward()
    return scores.detach(), [*(leaf.grad for leaf in leaves), *(p.grad for p in module.between.parameters())]


def ours(size: int) -> Callable[[Bilinear, Encoded, Encoded], Tensor]:
    return lambda module, images, texts: pair_scores(
        PairModel(module.every, module.matched, list(module.parameters()), lambda _: size), images, texts
    )


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("count", [0, 1, 5, IMAGES * CAPTIONS])
def test_scores_and_gradients_are_those_of_each_pair_alone(size, count):
    """Whether few pairs have a gradient or all of them."""
    wanted = torch.zeros(IMAGES * CAPTIONS)
    wanted[torch.randperm(len(wanted), generator=torch.Generator().manual_seed(2))[:count]] = torch.arange(
        1.0, count + 1
    )
    wanted = wanted.view(IMAGES, CAPTIONS)
    scores, found = gradients(ours(size), wanted)
    slow_scores, slow = gradients(plain, wanted)
    torch.testing.assert_close(scores, slow_scores)
    for mine, other in zip(found, slow, strict=True):
        torch.testing.assert_close(mine, other.nan_to_num())  # the plain way drags padding along
        assert count == 0 or mine.any()


def test_a_sparse_gradient_computes_the_pairs_that_have_one_and_no_other():
    module, _ = model_of()
    images, texts = sides()
    images.contextual.requires_grad_()
    seen: list[int] = []

    def matched(images: Encoded, texts: Encoded) -> Tensor:
        seen.append(len(images))
        return module.matched(images, texts)

    model = PairModel(module.every, matched, list(module.parameters()), lambda _: 4)
    scores = pair_scores(model, images, texts)
    (scores[0, 0] + scores[3, 5] - scores[1, 1]).backward()
    assert sum(seen) == 3
    assert images.contextual.grad.flatten(1).any(1).tolist() == [True, True, False, True, False]


def test_gradients_pass_torchs_own_check(monkeypatch):
    for share in (0.0, 1.0):  # tile by tile, pair by pair
        monkeypatch.setattr(pairs, "SPARSE", share)
        module = model_of()[0].double()
        images, texts = sides()
        model = PairModel(module.every, module.matched, list(module.parameters()), lambda _: 4)

        def score(*given: Tensor, model: PairModel = model, mask: Tensor = texts.mask) -> Tensor:
            image, regions, text, words = given
            return pair_scores(model, Encoded(image, None, regions), Encoded(text, None, words, mask))

        inputs = [images.embedding, images.contextual, texts.embedding, texts.contextual.nan_to_num()]
        assert torch.autograd.gradcheck(score, [tensor.double().requires_grad_() for tensor in inputs])


def test_every_pair_is_in_one_tile():
    count = torch.zeros(IMAGES, CAPTIONS, dtype=torch.int64)
    for rows, columns, length in tiles(IMAGES, LENGTHS, lambda length: 12 // length):
        assert (LENGTHS[columns] == length).all()
        assert len(rows) * len(columns) <= 12 // length
        count[rows[:, None], columns] += 1
    assert (count == 1).all()


def test_fragments_are_required():
    with pytest.raises(ValueError, match="contextual"):
        pair_scores(model_of()[1], Encoded(embedding=torch.ones(2, 2)), sides()[1])
