"""The combined interval: against drawing images one by one, against scipy.stats, and how often it holds the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from harness.measure.estimates import Estimate, Ranks, closed, difference, even_owners, rsum
from harness.measure.intervals import t_interval
from harness.measure.metrics import summary

KNOWN = Estimate(value=3.0, seeds=5, images=101, over_seeds=0.75, over_images=0.25, positive=0.9)  # error 1
UNEVEN = np.repeat(np.arange(31), [1 + i % 4 for i in range(31)])  # 1 to 4 captions an image


def made(seed: int, seeds: int, owners: np.ndarray, spread: int = 23) -> Ranks:
    rng = np.random.default_rng(seed)
    return rng.integers(0, spread, (seeds, owners[-1] + 1)), rng.integers(0, spread, (seeds, len(owners)))


def slow_draws(a: Ranks, b: Ranks, owners: np.ndarray, resamples: int) -> np.ndarray:
    """(resamples, S) differences, of images taken one by one with all their captions."""
    rng, captions = np.random.default_rng(1), [np.flatnonzero(owners == image) for image in range(owners[-1] + 1)]
    draws = np.zeros((resamples, len(a[0])))
    for row in draws:
        images = rng.integers(0, len(captions), len(captions))
        asked = np.concatenate([captions[image] for image in images])
        for seed in range(len(row)):
            ours, theirs = (summary(i2t[seed, images], t2i[seed, asked])["rsum"] for i2t, t2i in (a, b))
            row[seed] = ours - theirs
    return draws


# One estimate ---------------------------------------------------------------------------------------------------------


def test_the_parts_of_the_variance_add_up_and_share_their_degrees_of_freedom():
    assert KNOWN.error == 1
    assert KNOWN.freedom == pytest.approx(1 / (0.75**2 / 4 + 0.25**2 / 100))  # 7.08
    low, high = KNOWN.interval() or (0, 0)
    assert (3 - low, high - 3) == pytest.approx([stats.t.ppf(0.975, KNOWN.freedom)] * 2)


def test_with_nothing_from_images_it_is_students_interval_of_the_seeds():
    values = [1.0, 2.0, 6.0]
    alone = Estimate(3.0, 3, 100, float(np.var(values, ddof=1)) / 3, 0.0, 1.0)
    assert alone.interval(0.9) == pytest.approx(t_interval(values, 0.9))
    assert alone.p_off() == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert alone.p_above(0.5) == pytest.approx(stats.ttest_1samp(values, 0.5, alternative="greater").pvalue)
    assert alone.p_below(4.0) == pytest.approx(stats.ttest_1samp(values, 4.0, alternative="less").pvalue)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_an_interval_ends_where_its_test_begins_to_reject(level):
    low, high = KNOWN.interval(level) or (0, 0)
    assert KNOWN.p_above(low) == pytest.approx((1 - level) / 2)
    assert KNOWN.p_below(high) == pytest.approx((1 - level) / 2)
    assert replace(KNOWN, value=3 - low).p_off() == pytest.approx(1 - level)


def test_one_seed_has_a_value_and_no_interval():
    one = replace(KNOWN, seeds=1, over_seeds=None)
    assert (one.error, one.freedom, one.interval(), one.p_off(), one.p_above(0)) == (None,) * 5
    owners = even_owners(31, 93)
    found = difference(made(2, 1, owners), made(3, 1, owners), owners)
    assert (found.seeds, found.over_seeds, found.interval()) == (1, None, None)
    assert found.over_images > 0


def test_what_never_varies_is_known_exactly():
    exact = Estimate(2.0, 3, 7, 0.0, 0.0, 1.0)
    assert exact.interval() == (2, 2)
    assert (exact.p_off(), exact.p_above(1), exact.p_above(2)) == (0, 0, 1)
    assert Estimate(0.0, 3, 7, 0.0, 0.0, 0.5).p_off() == 1


# From ranks -----------------------------------------------------------------------------------------------------------


def test_an_rsum_by_hand():
    """Two images of two captions each: the first seed finds everything first, the second misses the last image's."""
    i2t, t2i = np.zeros((2, 2), int), np.array([[0, 0, 0, 0], [0, 0, 99, 99]])
    found = rsum((i2t, t2i), even_owners(2, 4))
    assert found.value == (600 + 450) / 2
    assert found.over_seeds == 150**2 / 2 / 2
    # the mean over seeds loses 75 for every draw of the second image, which is drawn 0, 1 or 2 of 2 times
    assert found.over_images == pytest.approx(75**2 / 2, rel=0.05)
    assert (found.seeds, found.images) == (2, 2)


@pytest.mark.parametrize("owners", [even_owners(31, 93), UNEVEN], ids=["even", "uneven"])
def test_the_draws_equal_taking_images_one_by_one(owners):
    a, b = made(2, 3, owners), made(3, 3, owners, 29)
    found, slow = difference(a, b, owners), slow_draws(a, b, owners, 1500)
    ours, theirs = (np.array([summary(i, t)["rsum"] for i, t in zip(*side, strict=True)]) for side in (a, b))
    gains = ours - theirs
    assert found.value == pytest.approx(gains.mean())
    assert found.over_seeds == pytest.approx(gains.var(ddof=1) / 3)
    assert found.over_images == pytest.approx(slow.mean(1).var(), rel=0.12)
    assert found.positive == pytest.approx((slow > 0).mean(), abs=0.03)


def test_the_variance_over_images_is_that_of_a_mean():
    """Of equally many captions each, a resampled Rsum is a mean over images, whose bootstrap variance has a formula."""
    owners = even_owners(211, 1055)
    i2t, t2i = made(5, 2, owners)
    hits = [np.sum([side < k for k in (1, 5, 10)], axis=0) for side in (i2t, t2i)]
    by_image = 100 * (hits[0] + hits[1].reshape(2, 211, 5).mean(2)).mean(0)  # (N,)
    assert rsum((i2t, t2i), owners).over_images == pytest.approx(by_image.var() / 211, rel=0.06)


def test_captions_of_one_image_are_not_independent_queries():
    """Five captions that share the fate of their image say as much as one."""
    rng = np.random.default_rng(6)
    owners, images = even_owners(101, 505), rng.integers(0, 23, (2, 2, 101))
    a, b = ((side, np.repeat(side, 5, axis=1)) for side in images)
    gains = [
        np.sum([(ours < k) * 1.0 - (theirs < k) for k in (1, 5, 10)], axis=0).mean(0)
        for ours, theirs in zip(a, b, strict=True)
    ]
    alone = 100 * sum(gain.var() / len(gain) for gain in gains) ** 0.5  # as if every query were independent
    assert difference(a, b, owners).over_images ** 0.5 > 1.5 * alone


def test_rows_are_paired_by_seed_and_image():
    owners = even_owners(31, 155)
    a, other = made(7, 3, owners), made(8, 3, owners)
    same = difference(a, a, owners)
    assert (same.value, same.over_seeds, same.over_images, same.positive) == (0, 0, 0, 0.5)
    there, back = difference(a, other, owners), difference(other, a, owners)
    assert there.value == -back.value
    assert there.over_images == pytest.approx(back.over_images)
    assert there.positive == pytest.approx(1 - back.positive)
    best = (np.zeros_like(a[0]), np.zeros_like(a[1]))
    assert difference(best, a, owners).positive == 1
    shifted = tuple(np.roll(side, 1, axis=0) for side in a)
    assert difference(a, (shifted[0], shifted[1]), owners).value == pytest.approx(0)
    assert (difference(a, (shifted[0], shifted[1]), owners).over_seeds or 0) > 0  # another partner each


def test_the_same_ranks_give_the_same_numbers():
    owners = even_owners(31, 155)
    a, b = made(9, 3, owners), made(10, 3, owners)
    assert difference(a, b, owners) == difference(a, b, owners)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """400 comparisons of a made world: seeds, images and their interaction all shift how often a query is answered."""
    rng = np.random.default_rng(11)
    images, captions, seeds, held = 60, 3, 4, 0
    owners, chance = even_owners(images, images * captions), 0.5
    for _ in range(400):
        shift = 0.06 * rng.standard_normal((seeds, 1)) + 0.2 * rng.standard_normal(images)  # (S, N), of mean zero
        likely = np.clip(chance + shift, 0, 1)
        of_caption = np.repeat(likely, captions, axis=1)
        hits = [rng.random(p.shape) < p for p in (likely, of_caption)]
        ranks = (np.where(hits[0], 0, 99), np.where(hits[1], 0, 99))
        low, high = rsum(ranks, owners, resamples=2000).interval() or (0, 0)
        held += low <= 600 * chance <= high
    assert 0.92 <= held / 400 <= 0.995


def test_what_is_not_paired_is_refused():
    owners = even_owners(31, 93)
    a = made(12, 3, owners)
    with pytest.raises(ValueError, match="paired seeds and queries needed"):
        difference(a, (a[0][:2], a[1][:2]), owners)
    with pytest.raises(ValueError, match=r"ranks of shapes \(3, 31\) and \(3, 93\) do not fit 92 captions"):
        rsum(a, owners[:-1])
    with pytest.raises(ValueError, match="every one of 31 images needs a caption"):
        rsum(a, np.zeros(93, int))
    with pytest.raises(ValueError, match="do not fit"):
        rsum((a[0][:0], a[1][:0]), owners)


def test_even_owners():
    assert even_owners(3, 6).tolist() == [0, 0, 1, 1, 2, 2]
    for images, captions in ((3, 7), (0, 5)):
        with pytest.raises(ValueError, match="not equally many"):
            even_owners(images, captions)


def drawn_ranks(seed, wrong, seeds=3, images=40):
    """Ranks of which about a share `wrong` are beyond ten."""
    rng = np.random.default_rng(seed)
    return tuple(np.where(rng.random((seeds, count)) < wrong, 20, 0) for count in (images, 2 * images))


def test_the_share_of_a_gap_by_hand():
    """One image, one caption: the student finds neither, the teacher both, the taught row the caption alone."""
    owners = np.array([0])
    none, both, half = ((np.array([[a]]), np.array([[b]])) for a, b in ((20, 20), (0, 0), (20, 0)))
    assert closed(half, none, both, owners).value == pytest.approx(0.5)
    assert closed(none, none, both, owners).value == 0
    assert closed(both, none, both, owners).value == 1
    assert closed(half, both, both, owners) is None


def test_the_share_is_that_of_the_differences_and_surer_with_more_images():
    errors = []
    for images in (40, 640):
        owners = even_owners(images, 2 * images)
        taught, student, teacher = (drawn_ranks(s, w, images=images) for s, w in ((1, 0.5), (2, 0.8), (3, 0.2)))
        found = closed(taught, student, teacher, owners)
        gain, gap = (difference(side, student, owners) for side in (taught, teacher))
        assert found.value == pytest.approx(gain.value / gap.value)
        errors.append(found.over_images**0.5)
    assert errors[1] < errors[0] / 2


def test_the_interval_of_a_share_covers_what_drawing_images_anew_gives():
    """The delta method against a plain bootstrap of the quotient, over images alone."""
    images = 300
    owners = even_owners(images, 2 * images)
    rows = [drawn_ranks(s, w, seeds=1, images=images) for s, w in ((1, 0.5), (2, 0.8), (3, 0.2))]
    found = closed(*rows, owners)
    rng, quotients = np.random.default_rng(0), []
    for _ in range(400):
        chosen = rng.integers(0, images, images)
        captions = np.concatenate([2 * chosen, 2 * chosen + 1])
        sums = [(i2t[0, chosen] < 1).mean() + (t2i[0, captions] < 1).mean() for i2t, t2i in rows]
        quotients.append((sums[0] - sums[1]) / (sums[2] - sums[1]))
    assert found.over_images**0.5 == pytest.approx(np.std(quotients), rel=0.2)
