"""The choice within a budget: worked out by hand, beside trying all, and never worse for a larger budget."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.report.read.times import TimeCurve
from harness.report.tables.choice import Budget, Candidate, Choice, Offer, choose, offers
from harness.report.tables.choice_words import accuracy, caveat, cost, shown_bytes, verdict

MILLION = 1_000_000


def line(intercept: float = 1.0, per_item: float = 1e-5, most: int = 100_000) -> TimeCurve:
    """Measured among 1,000 and `most` images, where it is on the law; the law goes on."""
    items = (1_000, most)
    return TimeCurve(items, tuple(intercept + per_item * n for n in items), per_item, *items, whole=True)


def made(
    name: str = "a", rsum: float = 100.0, curve: TimeCurve | None = None, size: float = 1024.0, **more
) -> Candidate:
    means = {"rsum": rsum, "t2i-r1": rsum / 10, "i2t-r1": rsum / 5}
    return Candidate(name, means, curve or line(), size, images=1_000, **more)


def names(found: tuple[Offer, ...]) -> list[str]:
    return [offer.candidate.title for offer in found]


def test_one_ms_and_a_hundred_thousandth_per_image_are_eleven_ms_among_a_million():
    (offer,) = offers([made()], MILLION)
    assert offer.ms == pytest.approx(11.0)
    assert offer.memory == 1024 * MILLION
    assert not offer.is_measured
    assert (offer.shown_ms, cost(offer)) == ("≈11.0", "≈11.0 ms a query, 977 MiB")
    (near,) = offers([made()], 100_000)
    assert (near.ms, near.is_measured, near.shown_ms) == (pytest.approx(2.0), True, "2.00")


def test_the_most_accurate_that_fits_is_taken_and_what_is_better_is_told_nearest_first():
    slow, slower, quick = made("slow", 300, line(100)), made("slower", 400, line(1000)), made("quick", 100)
    found = choose([slower, quick, slow], Budget(MILLION, 20))
    assert names(found.inside) == ["quick"]
    assert names(found.outside) == ["slow", "slower"]
    wide = choose([slower, quick, slow], Budget(MILLION, 110))  # 100 + 10 ms fit just so
    assert names(wide.inside) == ["slow", "quick"]
    assert names(wide.outside) == ["slower"]
    assert wide.second is not None
    assert wide.second.candidate is quick


def test_memory_binds_where_time_does_not():
    large, small = made("large", 300, size=4096.0), made("small", 200, size=1024.0)
    assert names(choose([large, small], Budget(MILLION, 20)).inside) == ["large", "small"]
    tight = choose([large, small], Budget(MILLION, 20, 1024.0 * MILLION))
    assert names(tight.inside) == ["small"]
    assert names(tight.outside) == ["large"]
    assert tight.outside[0].excess(Budget(MILLION, 20, 1024.0 * MILLION)) == 4


def test_of_equals_the_faster_then_the_smaller_then_the_first_by_name_is_taken():
    alike = [made("c"), made("b"), made("a", size=2048.0), made("d", curve=line(0.5))]
    assert names(choose(alike, Budget(1_000, 20)).inside) == ["d", "b", "c", "a"]


def test_a_pair_takes_its_shortlist_beside_the_retriever_and_the_index_of_both():
    short, long = (made("a, then b", 100.0 + k, size=3072.0, k=k, rerank_ms=k / 10) for k in (10, 100))
    found = choose([made("a", 50), short, long], Budget(100_000, 5))
    assert names(found.inside) == ["a, then b, k=10", "a"]  # 2 + 1 ms; with a hundred 2 + 10 ms
    assert found.inside[0].ms == pytest.approx(3.0)
    assert found.inside[0].memory == 3072 * 100_000
    assert names(found.outside) == ["a, then b, k=100"]
    assert names(choose([made("a", 50), short, long], Budget(100_000, 12)).inside) == ["a, then b, k=100", "a"]


def test_a_shortlist_of_the_whole_gallery_is_none():
    pair = made("a, then b", k=10)
    assert names(choose([pair], Budget(11, 20)).inside) == ["a, then b, k=10"]
    assert choose([pair], Budget(10, 20)).inside == ()


def test_another_figure_may_choose_another_row():
    one, other = made("one", 100), made("other", 90)
    other = Candidate("other", {**other.means, "t2i-r1": 99.0}, other.curve, 1024.0, 1_000)
    assert names(choose([one, other], Budget(1_000, 20)).inside) == ["one", "other"]
    assert names(choose([one, other], Budget(1_000, 20), "t2i-r1").inside) == ["other", "one"]


@pytest.mark.parametrize("numbers", [(0, 1.0, 1.0), (1, 0.0, 1.0), (1, nan, 1.0), (1, 1.0, 0.0), (1, 1.0, nan)])
def test_a_budget_of_nothing_is_none(numbers):
    with pytest.raises(ValueError, match="above zero, got Budget"):
        Budget(*numbers)


def test_where_nothing_fits_the_fastest_and_the_smallest_are_told():
    fast, small = made("fast", size=4096.0), made("small", curve=line(50), size=1.0)
    found = choose([fast, small], Budget(MILLION, 1))
    assert (found.best, found.second) == (None, None)
    assert found.fastest is not None
    assert found.smallest is not None
    assert (found.fastest.candidate, found.smallest.candidate) == (fast, small)
    assert choose([], Budget(MILLION, 1)) == Choice((), (), None, None)


@pytest.mark.parametrize("curve", [TimeCurve((1_000,), (5.0,), None, 1_000, 1_000, whole=True), line(inf)])
def test_without_a_time_there_is_no_offer(curve):
    assert choose([made(curve=curve)], Budget(MILLION, 1e9)).fastest is None


# Beside trying all ---------------------------------------------------------------------------------------------------

NUMBER = st.integers(0, 12).map(float)  # few values: many are equal
CANDIDATES = st.lists(
    st.builds(
        lambda name, rsum, ms, size, k: made(name, rsum, line(ms), size, k=k, rerank_ms=0.0 if k is None else k / 4),
        st.sampled_from("abcd"),
        NUMBER,
        NUMBER,
        NUMBER,
        st.sampled_from([None, 2, 8, 2_000]),
    ),
    max_size=9,
)
GALLERIES = st.sampled_from([1, 1_000, 30_000, 100_000, MILLION])


def slow_best(candidates: list[Candidate], gallery: int, ms: float, memory: float) -> float | None:
    """The highest Rsum of all that fits, by the law alone."""
    best = None
    for candidate in candidates:
        law_ms = candidate.curve.ms[0] + 1e-5 * (max(gallery, 1_000) - 1_000) + candidate.rerank_ms
        shortlist = candidate.k is None or candidate.k < gallery
        fits = law_ms <= ms + 1e-9 and candidate.bytes_per_image * gallery <= memory
        if shortlist and fits and (best is None or candidate.means["rsum"] > best):
            best = candidate.means["rsum"]
    return best


@settings(deadline=None)
@given(CANDIDATES, GALLERIES, NUMBER, NUMBER)
def test_no_other_that_fits_is_better(candidates, gallery, ms, size):
    ms += 0.003  # between what candidates take, which are whole numbers of hundredths
    memory = (size + 0.5) * gallery
    found = choose(candidates, Budget(gallery, ms, memory)).best
    expected = slow_best(candidates, gallery, ms, memory)
    assert (found and found.candidate.means["rsum"]) == expected


@settings(deadline=None)
@given(CANDIDATES, GALLERIES, NUMBER, NUMBER, NUMBER, NUMBER)
def test_a_larger_budget_never_gives_less(candidates, gallery, ms, size, more_ms, more_size):
    less = choose(candidates, Budget(gallery, ms + 0.5, size * gallery + 0.5))
    more = choose(candidates, Budget(gallery, ms + 0.5 + more_ms, (size + more_size) * gallery + 0.5))
    lowest, highest = (found.best.candidate.means["rsum"] if found.best else -1.0 for found in (less, more))
    assert highest >= lowest
    assert {offer.candidate.name for offer in less.inside} <= {offer.candidate.name for offer in more.inside}


@settings(deadline=None)
@given(CANDIDATES, GALLERIES, NUMBER, NUMBER)
def test_inside_fits_and_outside_is_better_and_does_not(candidates, gallery, ms, size):
    budget = Budget(gallery, ms + 0.5, size * gallery + 0.5)
    found = choose(candidates, budget)
    assert all(offer.fits(budget) for offer in found.inside)
    assert all(not offer.fits(budget) and offer.excess(budget) > 1 for offer in found.outside)
    ranked = [offer.candidate.means["rsum"] for offer in found.inside]
    assert ranked == sorted(ranked, reverse=True)
    assert all(offer.candidate.means["rsum"] > max([-1.0, *ranked]) for offer in found.outside)
    for told in (found.inside, found.outside):
        assert len({offer.candidate.name for offer in told}) == len(told)


# In words ------------------------------------------------------------------------------------------------------------


def test_accuracy_has_its_interval_its_seeds_and_the_mark_of_untuned_rows():
    assert accuracy(made(rsum=168.04)) == "Rsum 168.0, 1 seed"
    told = made(rsum=168.0, intervals={"rsum": (153.8, 182.2), "t2i-r1": None}, seeds=3, untuned=True)
    assert accuracy(told) == "Rsum 168.0 [153.8, 182.2], 3 seeds, untuned"
    assert accuracy(told, "t2i-r1") == "t2i R@1 16.8, 3 seeds, untuned"


def test_the_caveat_names_the_gallery_that_was_measured():
    assert caveat(made(), 1_000) == ""
    assert caveat(made(), 500) == "Accuracy was measured among 1,000 images, not 500; among fewer more is found."
    assert "1,000 images, not 1,000,000; among more less is found, and rows may" in caveat(made(), MILLION)
    assert caveat(made(k=50), MILLION).endswith("fewer right images are in a shortlist of 50.")


def test_one_seed_tells_nothing_apart():
    lone, several = made("lone"), made("several", seeds=3)
    assert verdict({}, lone, lone) == "one seed each: not told apart"
    assert verdict({}, several, lone) == verdict({}, lone, several) == "one seed of lone: not told apart"


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.00 KiB"), (2**32, "4.00 GiB"), (2**40 * 5000, "5000 TiB")],
)
def test_bytes_are_told_in_the_unit_that_fits(size, said):
    assert shown_bytes(size) == said


def test_thousands_of_ms_have_their_comma():
    offer = Offer(made(), 3123.6, 1.0, is_measured=False)
    assert offer.shown_ms == "≈3,124"
    assert not Offer(made(), nan, 1.0, is_measured=True).fits(Budget(1, 1.0))
