"""EFA: each step by hand, the whole against a slow twin, its gradients, and padding of every kind."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from models.losses import other_image
from models.modules.efa import Options, efa_loss, set_scores, soft_hinge, sparse_weights

ALL = torch.ones(1, 3, dtype=torch.bool)


def test_a_word_gathers_the_regions_that_fit_it_best():
    products = torch.tensor([[[0.1, 0.5, 0.9]]], dtype=torch.float64)  # spread: 0, 0.5, 1; below 1/3 is dropped
    assert sparse_weights(products, ALL)[0, 0].tolist() == pytest.approx([0, 1 / 3, 2 / 3])


def test_a_flat_word_gathers_evenly():
    assert sparse_weights(torch.full((1, 1, 3), 0.4), ALL)[0, 0].tolist() == pytest.approx([1 / 3] * 3)


def test_padding_is_gathered_by_no_word():
    mask = torch.tensor([[True, True, False]])
    products = torch.tensor([[[0.2, 0.6, 9.0]]])  # of two regions the limit is 1/2
    assert sparse_weights(products, mask)[0, 0].tolist() == [0, 1, 0]
    assert sparse_weights(products, torch.tensor([[True, False, False]]))[0, 0].tolist() == [1, 0, 0]


def test_sets_find_themselves_by_log_sum_exp_of_best_cosines():
    x, y = [1.0, 0.0], [0.0, 1.0]
    tokens, others = torch.tensor([[x, y], [x, x]]), torch.tensor([[x], [y]])
    forth, back = set_scores(tokens, torch.ones(2, 2, dtype=torch.bool), others, torch.ones(2, 1, dtype=torch.bool))
    one, two, both = math.log(1 + math.e), math.log(2), math.log(2 * math.e)
    expected = F.normalize(torch.tensor([[one, one], [both, two]]), dim=1)
    torch.testing.assert_close(forth, expected)
    torch.testing.assert_close(back, F.normalize(torch.tensor([[1.0, 1.0], [1.0, 0.0]]), dim=1))


def test_the_hinge_by_hand():
    scores = torch.tensor([[0.5, 0.4], [0.1, 0.9]], dtype=torch.float64)
    impostors = ~torch.eye(2, dtype=torch.bool)
    # one negative a row: its soft maximum is itself.  0.3 + 0.4 - 0.5 = 0.2 and 0.3 + 0.1 - 0.9 < 0
    assert float(soft_hinge(scores, impostors, 0.3, 0.05)) == pytest.approx(0.1)


def test_a_row_without_negatives_costs_nothing_and_has_a_gradient():
    scores = torch.tensor([[0.5]], requires_grad=True)
    loss = soft_hinge(scores, torch.zeros(1, 1, dtype=torch.bool), 0.9, 0.02)
    loss.backward()
    assert loss.item() == 0
    assert scores.grad.item() == 0


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def normal(v):
    length = math.sqrt(sum(x * x for x in v))
    return [x / length for x in v] if length else v


def slow_efa(regions, words, images, options):
    """regions, words: lists (of pairs) of lists (of real fragments) of unit vectors."""
    gathered = []
    for own_words, own_regions in zip(words, regions, strict=True):
        sums = []
        for word in own_words:
            products = [cosine(word, region) for region in own_regions]
            low, high = min(products), max(products)
            spread = [1.0 if high == low else (p - low) / (high - low) for p in products]
            kept = [s if s >= 1 / len(products) else 0.0 for s in spread]
            shares = [k / sum(kept) for k in kept]
            axes = range(len(word))
            sums.append(normal([sum(s * r[a] for s, r in zip(shares, own_regions, strict=True)) for a in axes]))
        gathered.append(sums)

    def table(sets, others):
        rows = []
        for tokens in sets:
            row = [math.log(sum(math.exp(max(cosine(t, o) for o in other)) for t in tokens)) for other in others]
            rows.append(normal(row))
        return rows

    def hinge(scores, margin):
        total = 0.0
        for i, row in enumerate(scores):
            wrong = [s for j, s in enumerate(row) if images[j] != images[i]]
            if wrong:
                soft = options.temperature * math.log(sum(math.exp(s / options.temperature) for s in wrong))
                total += max(0.0, margin + soft - row[i])
        return total / len(scores)

    pairs = ((words, options.word_margin), (regions, options.region_margin))
    return sum(
        hinge(table(tokens, gathered), margin) + hinge(table(gathered, tokens), margin) for tokens, margin in pairs
    )


def padded(sets, rubbish):
    longest = max(map(len, sets)) + 1
    filled = torch.full((len(sets), longest, len(sets[0][0])), rubbish, dtype=torch.float64)
    mask = torch.zeros(len(sets), longest, dtype=torch.bool)
    for row, one in enumerate(sets):
        filled[row, : len(one)], mask[row, : len(one)] = torch.tensor(one, dtype=torch.float64), True
    return filled, mask


def drawn(seed, count):
    generator = torch.Generator().manual_seed(seed)

    def some(most):
        sizes = torch.randint(1, most + 1, (count,), generator=generator).tolist()
        return [F.normalize(torch.randn(n, 3, generator=generator, dtype=torch.float64), dim=1).tolist() for n in sizes]

    return some(5), some(4), torch.randint(3, (count,), generator=generator)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.sampled_from([0.0, 0.5]))
def test_it_equals_its_slow_twin_whatever_stands_in_padding(seed, count, rubbish):
    regions, words, images = drawn(seed, count)
    options = Options(temperature=0.1)
    found = efa_loss(*padded(regions, rubbish), *padded(words, rubbish), other_image(images), options)
    assert float(found) == pytest.approx(slow_efa(regions, words, images.tolist(), options), rel=1e-6, abs=1e-6)


def test_its_gradient_is_right():
    regions, words, _ = drawn(5, 3)
    (r, r_mask), (w, w_mask) = padded(regions, 0.3), padded(words, 0.3)
    options, impostors = Options(temperature=0.3), ~torch.eye(3, dtype=torch.bool)

    def loss(r, w):
        return efa_loss(F.normalize(r, dim=2), r_mask, F.normalize(w, dim=2), w_mask, impostors, options)

    assert torch.autograd.gradcheck(loss, (r.requires_grad_(), w.requires_grad_()))


def test_a_pair_that_fits_costs_less_than_one_that_does_not():
    x, y = [[1.0, 0.0]], [[0.0, 1.0]]
    impostors = ~torch.eye(2, dtype=torch.bool)
    right = efa_loss(*padded([x, y], 0.0), *padded([x, y], 0.0), impostors, Options())
    wrong = efa_loss(*padded([x, x], 0.0), *padded([x, y], 0.0), impostors, Options())
    assert right < wrong


def test_impossible_options_are_refused():
    for wrong in ({"temperature": 0.0}, {"word_margin": -0.1}, {"weight": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Options(**wrong)
