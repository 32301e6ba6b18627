"""Rows of the scale: what fits comes first, what fits fewer images before that, and ties are by chance."""

import pytest
import torch

from harness.protocol import ImageBatch, TextBatch
from models.told import Told

FITS = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 0]]).bool()  # captions x images


def scores(seed: int) -> torch.Tensor:
    """(3, 4) images x captions."""
    torch.manual_seed(seed)
    model = Told()
    tokens = torch.ones(4, 1, dtype=torch.int64)
    images = model.encode_images(ImageBatch(ids=("a", "b", "c"), places=torch.arange(3)))
    texts = model.encode_texts(TextBatch(tokens, tokens.bool(), places=torch.arange(4), fits=FITS))
    return model.similarity(images, texts)


def test_from_an_image_captions_come_by_how_few_images_they_fit():
    for seed in range(11):
        found = scores(seed)
        assert found[0].argsort(descending=True).tolist() == [0, 1, 2, 3]
        assert found[1].argsort(descending=True).tolist()[:3] == [3, 1, 2]
        assert int(found[2].argmax()) == 2


def test_among_images_that_a_caption_fits_any_may_be_first():
    first = [int(scores(seed)[:, 2].argmax()) for seed in range(41)]  # caption 2 fits all three
    assert min(first.count(image) for image in range(3)) >= 5
    assert {int(scores(seed)[:, 1].argmax()) for seed in range(41)} == {0, 1}
    assert {int(scores(seed)[:, 0].argmax()) for seed in range(41)} == {0}


def test_who_is_not_told_says_so():
    tokens = torch.ones(1, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match="must be told what captions fit"):
        Told().encode_texts(TextBatch(tokens, tokens.bool()))
