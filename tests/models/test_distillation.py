"""What a matrix of scores teaches another: by hand, against slow twins, by gradients in double precision."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import distillation
from models.distillation import (
    calibrated,
    contrastive,
    entropy_and_slope,
    listwise,
    max_regions_sum_words,
    ordinal,
    shuffled,
    squared,
)
from models.losses import other_image

SIDES = ("both", "rows", "columns")
blocks = st.integers(2, 7).flatmap(
    lambda n: st.integers(0, 2**31).map(
        lambda seed: torch.randn(2, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    )
)


def softmax(row):
    total = sum(math.exp(x - max(row)) for x in row)
    return [math.exp(x - max(row)) / total for x in row]


def slow_faces(block, sides):
    turned = [list(column) for column in zip(*block, strict=True)]
    return {"rows": [block], "columns": [turned], "both": [block, turned]}[sides]


def slow_listwise(student, teacher, sides):
    total = 0.0
    for s, t in zip(slow_faces(student, sides), slow_faces(teacher, sides), strict=True):
        rows = [zip(softmax(a), softmax(b), strict=True) for a, b in zip(t, s, strict=True)]
        total += sum(-p * math.log(q) for row in rows for p, q in row) / len(s)
    return total


def slow_ordinal(student, teacher, margin, stride, sides):
    mean = sum(map(sum, teacher)) / len(teacher) ** 2
    total = 0.0
    for s, t in zip(slow_faces(student, sides), slow_faces(teacher, sides), strict=True):
        costs = []
        for a, b in zip(s, t, strict=True):
            order = sorted(range(len(b)), key=lambda i: (-b[i], i))
            for place in range(len(b) - stride):
                ahead, behind = order[place], order[place + stride]
                if b[behind] > mean:
                    costs.append(max(0.0, margin - (a[ahead] - a[behind])))
        total += sum(costs) / max(1, len(costs))
    return total


def slow_contrastive(student, teacher, margin, images, sides):
    total = 0.0
    for s, t in zip(slow_faces(student, sides), slow_faces(teacher, sides), strict=True):
        for i in range(len(s)):
            wrong = [j for j in range(len(s)) if images[j] != images[i]]
            if wrong:
                hardest = max(wrong, key=lambda j: t[i][j])
                total += max(0.0, margin + s[i][hardest] - s[i][i])
    return total


@settings(max_examples=30, deadline=None)
@given(blocks, st.sampled_from(SIDES), st.integers(1, 4))
def test_losses_equal_their_slow_twins(pair, sides, stride):
    student, teacher = pair
    s, t, images = student.tolist(), teacher.tolist(), [i // 2 for i in range(len(student))]
    impostors = other_image(torch.tensor(images))
    assert float(listwise(student, teacher, sides)) == pytest.approx(slow_listwise(s, t, sides))
    assert float(ordinal(student, teacher, 0.7, stride, sides)) == pytest.approx(slow_ordinal(s, t, 0.7, stride, sides))
    found = contrastive(student, teacher, 0.7, impostors, sides)
    assert float(found) == pytest.approx(slow_contrastive(s, t, 0.7, images, sides))


@pytest.mark.parametrize("sides", SIDES)
def test_gradients_are_right(sides):
    student, teacher = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scale, shift = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (1.3, -0.2))
    student.requires_grad_()
    check = torch.autograd.gradcheck
    assert check(lambda s: listwise(s, teacher, sides), (student,))
    assert check(lambda s: ordinal(s, teacher, 0.7, 1, sides), (student,))
    assert check(lambda s: contrastive(s, teacher, 0.7, None, sides), (student,))
    assert check(lambda s, a, b: squared(s, teacher, a, b), (student, scale, shift))


def test_listwise_by_hand():
    """Even targets against scores of 0 and log 3: -(log 1/4 + log 3/4) / 2 in a row, as much again in a column."""
    student = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]])
    row = -(math.log(0.25) + math.log(0.75)) / 2
    assert float(listwise(student, torch.zeros(2, 2), "rows")) == pytest.approx(row)
    assert float(listwise(student, torch.zeros(2, 2))) == pytest.approx(2 * row)


def test_a_student_that_agrees_cannot_do_better():
    teacher = torch.randn(5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    student = teacher.clone().requires_grad_()
    listwise(student, teacher).backward()
    assert student.grad.abs().max() < 1e-12
    assert listwise(-teacher, teacher) > listwise(teacher, teacher)


def test_squares_by_hand():
    one = torch.tensor(1.0)
    assert float(squared(torch.tensor([[2.0]]), torch.tensor([[5.0]]), 2 * one, 3 * one)) == 4  # 2 x 2 + 3 - 5 = 2


def test_order_by_hand():
    """Of one row the teacher puts item 2 before 0; the mean keeps only those two: margin - (0.1 - 0.4)."""
    student = torch.tensor([[0.4, 0.9, 0.1]] * 3)
    teacher = torch.tensor([[2.0, -9.0, 3.0]] * 3)
    assert float(ordinal(student, teacher, 0.2, 1, "rows")) == pytest.approx(0.5)
    assert float(ordinal(student, teacher, 0.2, 3, "rows")) == 0


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_targets_have_the_stated_entropy_whatever_the_scale(share, sides, scale):
    stated_entropy(share, sides, scale)


def test_calibration_does_not_see_scale_and_shift():
    scores = torch.randn(7, 7, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(calibrated(scores, 0.5), calibrated(7 * scores - 11, 0.5), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("logits", [[[0.3, -1.2, 2.0]], [[5.0, 0.0, 0.1], [1.0, 1.0, 1.0]]])
def test_entropy_falls_by_the_variance_of_the_logits(logits):
    block = torch.tensor(logits, dtype=torch.float64)
    place = torch.zeros((), dtype=torch.float64, requires_grad=True)
    found = entropy_and_slope(block * place.exp())
    torch.testing.assert_close(torch.autograd.grad(found[0], place)[0], found[1].detach())


def test_calibration_takes_few_looks(monkeypatch):
    looks = []
    monkeypatch.setattr(distillation, "entropy_and_slope", lambda blocks: (looks.append(1), RIGHT(blocks))[1])
    calibrated(torch.randn(64, 64, generator=torch.Generator().manual_seed(4)) + 3 * torch.eye(64), 0.5)
    assert len(looks) < 12  # halving alone takes 40


def test_calibration_keeps_the_order():
    scores = torch.randn(7, 7, generator=torch.Generator().manual_seed(4))
    assert torch.equal(scores.argsort(1), calibrated(scores, 0.4).argsort(1))


def test_a_teacher_that_says_nothing_stays_even():
    assert calibrated(torch.full((5, 5), 0.3), 0.5).abs().max() < 1e-3


def test_label_smoothing_is_the_identity_at_an_entropy():
    targets = calibrated(torch.eye(5), 0.5).softmax(1)
    off = targets[~torch.eye(5, dtype=torch.bool)]
    assert float(off.max() - off.min()) < 1e-6
    assert targets.diagonal().min() > off.max()


def test_shuffling_keeps_the_matches_and_moves_the_rest():
    scores = torch.arange(49.0).view(7, 7)
    mixed = shuffled(scores, 5)
    assert torch.equal(mixed.diagonal(), scores.diagonal())
    assert torch.equal(mixed.flatten().sort().values, scores.flatten())
    assert (mixed != scores).sum() > 30
    assert torch.equal(mixed, shuffled(scores, 5))
    assert not torch.equal(mixed, shuffled(scores, 6))


def test_alignment_takes_the_best_region_and_sums_over_real_words():
    regions = torch.tensor([[[1.0, 0.0], [0.6, 0.8], [9.0, 9.0]]])
    words = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]], [[-1.0, 0.0], [9.0, 9.0], [9.0, 9.0]]])
    region_mask = torch.tensor([[True, True, False]])
    word_mask = torch.tensor([[True, True, False], [True, False, False]])
    found = max_regions_sum_words(regions, region_mask, words, word_mask)
    torch.testing.assert_close(found, torch.tensor([[1.8, -0.6]]))  # padding gives the best cosine no floor of zero


def forgets_columns(block, sides):  # noqa: ARG001
    return [block]


RIGHT = entropy_and_slope


def forgets_the_sign(logits):
    found, slope = RIGHT(logits)
    return -found, slope


def forgets_to_normalise(logits):
    return -(logits.exp() * logits).sum(-1).mean(), RIGHT(logits)[1]


@pytest.mark.parametrize(
    ("name", "slip", "test"),
    [
        ("faces", forgets_columns, lambda: test_listwise_by_hand()),
        ("entropy_and_slope", forgets_the_sign, lambda: stated_entropy(0.5, "both", 1.0)),
        ("entropy_and_slope", forgets_to_normalise, lambda: stated_entropy(0.5, "both", 1.0)),
    ],
)
def test_slips_are_noticed(monkeypatch, name, slip, test):
    monkeypatch.setattr(distillation, name, slip)
    with pytest.raises(AssertionError):
        test()


def stated_entropy(share, sides, scale):
    """By numpy's own words, whatever the module says of entropy."""
    scores = scale * torch.randn(13, 13, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    blocks = slow_faces(calibrated(scores, share, sides).tolist(), sides)
    rows = [softmax(row) for block in blocks for row in block]
    found = -sum(p * math.log(p) for row in rows for p in row) / len(rows)
    assert found == pytest.approx(share * math.log(13), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_a_teacher_of_any_scale_teaches_alike(scale):
    scores = torch.randn(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(calibrated(scale * scores, 0.5), calibrated(scores, 0.5), rtol=1e-6, atol=1e-9)
