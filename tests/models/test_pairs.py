"""Scores of all pairs that keep nothing for the backward pass: values and gradients against the plain way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from harness.protocol import Encoded
from models import fused, pairs
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

    def score(self, images: Encoded, texts: Encoded) -> Tensor:
        seen = self.between(images.contextual).tanh()  # (X, R, d)
        fits = torch.einsum("xrd,yld->xyrl", seen, texts.contextual).exp()
        fits = (fits * images.mask[:, None, :, None]).sum((2, 3)) / images.mask.sum(1)[:, None]
        of_words = texts.extras["of_words"][:, : texts.contextual.shape[1]].sum(1)  # (Y,)
        return self.frozen * fits + images.embedding @ texts.embedding.T + images.extras["own"][:, None] * of_words


def sides() -> tuple[Encoded, Encoded]:
    torch.manual_seed(0)
    images = Encoded(
        embedding=torch.randn(IMAGES, DIM),
        contextual=torch.randn(IMAGES, REGIONS, DIM),
        mask=torch.tensor([[1, 1, 1], [0, 1, 1], [1, 0, 0], [1, 1, 1], [0, 1, 0]]).bool(),  # dropped anywhere
        extras={"own": torch.randn(IMAGES)},
    )
    mask = torch.arange(WORDS) < LENGTHS[:, None]
    words = torch.randn(CAPTIONS, WORDS, DIM).masked_fill(~mask[..., None], torch.nan)  # nobody may read padding
    of_words = torch.randn(CAPTIONS, WORDS).masked_fill(~mask, torch.nan)
    texts = Encoded(embedding=torch.randn(CAPTIONS, DIM), contextual=words, mask=mask, extras={"of_words": of_words})
    return images, texts


def pair_model(module: Bilinear, size: int = 4) -> PairModel:
    return PairModel(module.score, list(module.parameters()), lambda _: size)


def built() -> Bilinear:
    torch.manual_seed(1)
    return Bilinear()


def plain(module: Bilinear, images: Encoded, texts: Encoded) -> Tensor:
    """One pair at a time."""
    return torch.cat(
        [
            torch.stack([module.score(images.select(slice(i, i + 1)), text)[0, 0] for i in range(IMAGES)])[:, None]
            for j, length in enumerate(LENGTHS.tolist())
            for text in [texts.select(slice(j, j + 1)).trim(length)]
        ],
        1,
    )


def leaves(*given: Encoded) -> list[Tensor]:
    return [tensor for side in given for name, tensor in side.tensors().items() if name != "mask"]


def gradients(score: Callable[[Bilinear, Encoded, Encoded], Tensor], wanted: Tensor) -> tuple[Tensor, list[Tensor]]:
    module, (images, texts) = built(), sides()
    for leaf in leaves(images, texts):
        leaf.requires_grad_()
    scores = score(module, images, texts)
    (scores * wanted).sum().backward()
    return scores.detach(), [x.grad for x in (*leaves(images, texts), *module.between.parameters())]


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("count", [0, 1, 5, IMAGES * CAPTIONS])
def test_scores_and_gradients_are_those_of_each_pair_alone(size, count):
    """Whether few pairs have a gradient or all of them."""
    wanted = torch.zeros(IMAGES * CAPTIONS)
    wanted[torch.randperm(len(wanted), generator=torch.Generator().manual_seed(2))[:count]] = torch.arange(
        1.0, count + 1
    )
    wanted = wanted.view(IMAGES, CAPTIONS)
    ours = gradients(lambda module, *given: pair_scores(pair_model(module, size), *given), wanted)
    slow = gradients(plain, wanted)
    torch.testing.assert_close(ours[0], slow[0])
    for mine, other in zip(ours[1], slow[1], strict=True):
        torch.testing.assert_close(mine, other.nan_to_num())  # the plain way drags padding along
        assert count == 0 or mine.any()


def watched(module: nn.Module) -> tuple[Callable[[Encoded, Encoded], Tensor], list[int]]:
    """Its score, and the pairs of each piece that is computed with gradients."""
    again: list[int] = []

    def score(images: Encoded, texts: Encoded) -> Tensor:
        if torch.is_grad_enabled():
            again.append(len(images) * len(texts))
        return module.score(images, texts)

    return score, again


def test_a_sparse_gradient_computes_the_pairs_that_have_one_and_no_other():
    module, (images, texts) = built(), sides()
    images.contextual.requires_grad_()
    score, again = watched(module)
    scores = pair_scores(replace(pair_model(module), score=score), images, texts)
    (scores[0, 0] + scores[3, 5] - scores[1, 1] + scores[3, 3]).backward()
    assert len(again) == 2  # captions of two lengths, three images with equal masks and one with another
    assert images.contextual.grad.flatten(1).any(1).tolist() == [True, True, False, True, False]


def test_pairs_of_more_kinds_than_there_are_tiles_are_not_taken_apart():
    module, (images, texts) = built(), sides()
    images.contextual.requires_grad_()
    score, again = watched(module)
    scores = pair_scores(replace(pair_model(module, size=1000), score=score), images, texts)
    (scores[[0, 1, 2, 4], 0].sum() + scores[0, 1]).backward()  # five kinds: four masks, and a second length
    assert sorted(again) == [IMAGES * (LENGTHS == 4).sum(), IMAGES * (LENGTHS == 2).sum()]  # a tile is all of a length


def test_a_tile_that_no_gradient_asks_for_is_not_computed_again():
    module, (images, texts) = built(), sides()
    images.contextual.requires_grad_()
    score, again = watched(module)
    scores = pair_scores(replace(pair_model(module, size=1), score=score), images, texts)
    scores[:2].sum().backward()
    assert again == [1] * (2 * CAPTIONS)


@pytest.mark.parametrize(
    ("kernels", "size", "padded", "blocks"),
    [("plain", 18, True, 1), ("plain", 17, True, 0), ("plain", 1000, False, 0), ("", 9, True, 1), ("", 8, True, 0)],
)
def test_a_batch_of_few_tiles_is_one_padded_block_where_the_score_bears_padding(
    monkeypatch, kernels, size, padded, blocks
):
    """Of two, or of four where compiled passes keep less of each."""
    monkeypatch.setenv(fused.SWITCH, kernels)
    module, (images, texts) = built(), sides()
    images.contextual.requires_grad_()
    score, again = watched(module)
    model = replace(pair_model(module, size), score=score, padded=padded, compiled=True)
    found = pair_scores(model, images, texts)
    assert again == [IMAGES * CAPTIONS] * blocks  # scored with gradients before any is asked for
    assert found.shape == (IMAGES, CAPTIONS)


def test_a_block_reads_no_word_beyond_the_longest_caption():
    images, _ = sides()
    longer = Encoded(contextual=torch.zeros(CAPTIONS, 9, DIM), mask=torch.arange(9) < LENGTHS[:, None])
    seen: list[int] = []

    def score(images: Encoded, texts: Encoded) -> Tensor:
        seen.append(texts.contextual.shape[1])
        return images.contextual[:, 0] @ texts.contextual[:, 0].T

    pair_scores(PairModel(score, [], lambda _: 1000, padded=True), images, longer)
    assert seen == [WORDS]


def test_gradients_pass_torchs_own_check(monkeypatch):
    for share in (0.0, 1.0):  # tile by tile, pair by pair
        monkeypatch.setattr(pairs, "SPARSE", share)
        monkeypatch.setattr(pairs, "PIECES", math.inf)
        model = pair_model(built().double())
        images, texts = sides()

        def score(
            image: Tensor,
            regions: Tensor,
            own: Tensor,
            text: Tensor,
            words: Tensor,
            of_words: Tensor,
            model: PairModel = model,
            masks: tuple[Tensor | None, Tensor | None] = (images.mask, texts.mask),
        ) -> Tensor:
            return pair_scores(
                model,
                Encoded(image, None, regions, masks[0], extras={"own": own}),
                Encoded(text, None, words, masks[1], extras={"of_words": of_words}),
            )

        inputs = [tensor.nan_to_num().double().requires_grad_() for tensor in leaves(images, texts)]
        assert torch.autograd.gradcheck(score, inputs)


def test_two_weights_that_share_a_gradient_do_not_share_their_sum():
    """Autograd may hand both the same tensor."""
    one, other = (torch.zeros(2, requires_grad=True) for _ in "ab")

    def score(images: Encoded, texts: Encoded) -> Tensor:
        return (images.contextual[:, 0] * (one + other)) @ texts.contextual[:, 0].T

    ones = Encoded(contextual=torch.ones(2, 1, 2))
    pair_scores(PairModel(score, [one, other], lambda _: 1), ones, ones).sum().backward()
    assert one.grad.tolist() == other.grad.tolist() == [4.0, 4.0]


def test_every_pair_is_in_one_tile():
    count = torch.zeros(IMAGES, CAPTIONS, dtype=torch.int64)
    for rows, columns, length in tiles(IMAGES, LENGTHS, lambda length: 12 // length):
        assert (LENGTHS[columns] == length).all()
        assert count[rows, columns].numel() <= 12 // length
        count[rows, columns] += 1
    assert (count == 1).all()


@pytest.mark.parametrize("size", [1, 300])
def test_every_pair_is_in_one_mixed_tile_whose_captions_are_of_neighbouring_lengths(size):
    lengths = torch.arange(37) % 5 + 1
    count = torch.zeros(21, 37, dtype=torch.int64)
    for rows, columns, longest in tiles(21, lengths, lambda _: size, mixed=True):
        assert lengths[columns].max() == longest
        assert lengths[columns].tolist() == sorted(lengths[columns].tolist())
        count[rows, columns] += 1
    assert (count == 1).all()


@pytest.mark.parametrize("mixed", [False, True])
def test_a_single_caption_meets_as_many_images_at_once_as_a_tile_holds(mixed):
    """None are left out for captions that are not there, and the images of a tile stay in the cache."""

    def rows(most: int | None) -> list[slice]:
        return [rows for rows, _, _ in tiles(100, torch.tensor([3]), lambda _: 64, mixed, most)]

    assert rows(None) == [slice(0, 64), slice(64, 100)]
    assert rows(40) == [slice(0, 40), slice(40, 80), slice(80, 100)]


def test_images_of_a_tile_are_as_many_as_fit():
    def images(regions: int, width: int) -> Encoded:
        return Encoded(contextual=torch.zeros(1, regions, width))

    assert pairs._cached(images(4, 256)) == pairs.SIDE // (4 * 256 * 4)
    assert pairs._cached(images(36, 2**20)) == 2 * fused.WIDTH


@pytest.mark.parametrize("padded", [True, False])
def test_a_score_that_takes_padding_has_pairs_of_all_masks_in_one_piece(monkeypatch, padded):
    """And the gradients of pairs that were taken apart by their masks."""
    monkeypatch.setattr(pairs, "PIECES", math.inf)
    module, (images, texts) = built(), sides()
    texts = replace(texts, contextual=texts.contextual.nan_to_num(), extras={"of_words": torch.ones(CAPTIONS, WORDS)})
    images.contextual.requires_grad_()

    def score(images: Encoded, texts: Encoded) -> Tensor:
        kept = texts.mask[..., None] * texts.contextual
        return module.between(images.contextual).tanh().mul(images.mask[..., None]).sum(1) @ kept.sum(1).T

    asked: list[int] = []
    together = pairs._one_by_one
    monkeypatch.setattr(pairs, "_one_by_one", lambda *given: asked.append(len(given[1])) or together(*given))
    model = PairModel(score, list(module.parameters()), lambda _: 1, padded)
    scores = pair_scores(model, images, texts)
    (gradient,) = torch.autograd.grad(scores[0, 0] + scores[1, 1] + scores[4, 2], images.contextual)
    (expected,) = torch.autograd.grad((score(images, texts) * wanted_pairs()).sum(), images.contextual)
    torch.testing.assert_close(gradient, expected)
    assert asked == ([3] if padded else [1, 1, 1])


def wanted_pairs() -> Tensor:
    wanted = torch.zeros(IMAGES, CAPTIONS)
    wanted[[0, 1, 4], [0, 1, 2]] = 1
    return wanted


def test_fragments_are_required():
    with pytest.raises(ValueError, match="contextual"):
        pair_scores(pair_model(built()), Encoded(embedding=torch.ones(2, 2)), sides()[1])
