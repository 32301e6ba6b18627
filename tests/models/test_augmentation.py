"""Sets thinned out in training: shares that are dropped, order that is kept, sets that are never empty."""

import pytest
import torch

from harness.protocol import Inputs, TextBatch
from models.augmentation import altered, check_mask_word, never_empty, read_thinned, thinned
from models.encoders import WordVectors


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


class States(torch.nn.Module):
    """A text model whose state of a word is its number and the number of words that were read with it."""

    width = 2

    def __init__(self, learns):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()), requires_grad=learns)

    def forward(self, tokens, mask):
        together = mask.sum(1, keepdim=True).expand_as(tokens)
        return self.weight * torch.stack([tokens, together], 2).float()


def reader(states=None):
    inputs = Inputs(image_dim=3, regions=2, vocabulary=17, dim=5, word_dim=2, token_states=states)
    return WordVectors(inputs), inputs


@pytest.mark.parametrize("states", [None, lambda: States(learns=True)])
def test_words_that_learn_are_altered_before_they_are_read_and_a_text_model_keeps_the_ends(states):
    words, inputs = reader(states)
    torch.manual_seed(0)
    expected = altered(many(), 1.0, vocabulary=17, mask_word=3, spare_ends=states is not None)
    torch.manual_seed(0)
    vectors, found = read_thinned(words, many(), 1.0, 3, inputs)
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.mask, expected.mask)
    assert torch.equal(vectors, words(expected))
    assert (found.tokens[:, 0] == 4).all() == (states is not None)


def test_a_frozen_text_model_reads_whole_captions_and_loses_states():
    words, inputs = reader(lambda: States(learns=False))
    texts = TextBatch(many().tokens, torch.arange(7) < torch.randint(1, 8, (4001, 1)))
    texts = TextBatch(texts.tokens * texts.mask, texts.mask)
    torch.manual_seed(0)
    vectors, found = read_thinned(words, texts, 0.2, 3, inputs)
    for row in range(101):
        left, whole = found.tokens[row, found.mask[row]].tolist(), texts.tokens[row, texts.mask[row]].tolist()
        assert left == [token for token in whole if token in left]  # in their order
        assert {left[0], left[-1]} == {whole[0], whole[-1]}
        assert vectors[row, : len(left)].tolist() == [[token, len(whole)] for token in left]
        assert not vectors[row, len(left) :].any()
    inner = (texts.lengths - 2).clamp(min=0).sum()
    assert float((texts.lengths - found.lengths).sum() / inner) == pytest.approx(0.2, abs=0.02)


def test_a_mask_word_is_a_word():
    inputs = Inputs(image_dim=3, regions=2, vocabulary=17, dim=5)
    check_mask_word(16, inputs)
    with pytest.raises(ValueError, match="mask_word=17 is no token of a vocabulary of 17"):
        check_mask_word(17, inputs)
