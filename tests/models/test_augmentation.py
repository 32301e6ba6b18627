"""Sets thinned out in training: shares that are dropped, order that is kept, sets that are never empty."""

import pytest
import torch

from harness.protocol import Inputs, TextBatch
from models.augmentation import altered, check_mask_word, never_empty, thinned, thinned_words


def many(rows=4001, length=7):
    """Captions 4, 5, 6, ... of one length."""
    return TextBatch(torch.arange(4, 4 + length).expand(rows, -1), torch.ones(rows, length, dtype=torch.bool))


def test_a_share_of_the_regions_is_dropped_and_an_image_never_loses_all():
    torch.manual_seed(0)
    mask = torch.ones(997, 37, dtype=torch.bool)
    assert abs(float((~thinned(mask, 0.2)).float().mean()) - 0.2) < 0.01
    assert torch.equal(thinned(mask, 1.0), mask)
    assert torch.equal(thinned(mask, 0.0), mask)


def test_a_set_that_would_be_empty_keeps_what_it_had():
    mask = torch.tensor([[True, True, False], [True, True, False]])
    kept = torch.tensor([[False, False, False], [False, True, False]])
    assert never_empty(kept, mask).tolist() == [[True, True, False], [False, True, False]]


def test_half_of_the_touched_words_are_masked_two_fifths_removed_and_the_rest_replaced():
    torch.manual_seed(0)
    texts = many()
    out = altered(texts, 0.2, vocabulary=997, mask_word=3, spare_ends=False)
    words = texts.mask.sum()
    masked = (out.tokens == 3).sum() / words
    other = (out.tokens >= 11).sum() / words
    removed = 1 - out.mask.sum() / words
    assert [float(x) for x in (masked, other, removed)] == pytest.approx([0.1, 0.02, 0.08], abs=0.006)
    assert not out.tokens[~out.mask].any()


def test_words_that_are_left_keep_their_order():
    torch.manual_seed(0)
    out = altered(many(), 0.5, vocabulary=17, mask_word=3, spare_ends=False)
    plain = [[t for t in row if 4 <= t < 11] for row in out.tokens[:101].tolist()]
    torch.manual_seed(0)
    marked = altered(many(), 0.5, vocabulary=17, mask_word=16, spare_ends=False)  # the same draws
    assert torch.equal(out.mask, marked.mask)
    assert (out.tokens == 3).sum() > 0
    assert sum(row == sorted(row) for row in plain) > 80  # but for words drawn at random


def test_a_caption_that_would_lose_all_its_words_keeps_them():
    torch.manual_seed(0)
    out = altered(many(rows=101, length=1), 1.0, vocabulary=17, mask_word=3, spare_ends=False)
    assert out.mask.all()
    assert (out.tokens == 4).sum() > 20  # about 40 of 101
    assert (out.tokens == 3).sum() > 30


def test_the_ends_of_a_pretrained_text_model_are_spared():
    torch.manual_seed(0)
    texts = TextBatch(many().tokens, torch.arange(7) < torch.randint(2, 8, (4001, 1)))
    out = altered(texts, 1.0, vocabulary=17, mask_word=3, spare_ends=True)
    assert (out.tokens[:, 0] == 4).all()
    rows = torch.arange(4001)
    assert torch.equal(out.tokens[rows, out.lengths - 1], texts.tokens[rows, texts.lengths - 1])


@pytest.mark.parametrize("pretrained", [False, True])
def test_inputs_say_whether_the_ends_are_spared(pretrained):
    inputs = Inputs(
        image_dim=3, regions=2, vocabulary=17, dim=5, token_states=torch.nn.Identity if pretrained else None
    )
    torch.manual_seed(0)
    expected = altered(many(), 1.0, vocabulary=17, mask_word=3, spare_ends=pretrained)
    torch.manual_seed(0)
    found = thinned_words(many(), 1.0, 3, inputs)
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.mask, expected.mask)
    assert (found.tokens[:, 0] == 4).all() == pretrained


def test_a_mask_word_is_a_word():
    inputs = Inputs(image_dim=3, regions=2, vocabulary=17, dim=5)
    check_mask_word(16, inputs)
    with pytest.raises(ValueError, match="mask_word=17 is no token of a vocabulary of 17"):
        check_mask_word(17, inputs)
