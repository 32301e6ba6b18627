"""The plan of a run: its parts cover every update once, and the rate is the one that the settings draw."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.learn.schedule import Plan
from harness.spec.job import Settings, SpecError

COSINE = Settings(lr=0.8, schedule="cosine", updates=100, parts=4)


def test_an_epoch_is_a_part_unless_the_length_is_in_updates():
    assert Plan(Settings(epochs=3), steps=7).ends == (7, 14, 21)
    assert Plan(COSINE, steps=7).ends == (25, 50, 75, 100)
    assert (Settings(epochs=3).unit, COSINE.unit) == ("epoch", "part")


@given(st.integers(1, 97), st.integers(1, 13))
def test_parts_cover_every_update_once_and_differ_by_one_at_most(updates, parts):
    parts = min(parts, updates)
    plan = Plan(Settings(updates=updates, parts=parts), steps=5)
    spans = [plan.part(number) for number in range(parts)]
    assert [update for start, stop in spans for update in range(start, stop)] == list(range(updates))
    lengths = {stop - start for start, stop in spans}
    assert max(lengths) - min(lengths) <= 1


def test_the_rate_drops_every_so_many_epochs():
    for length in ({"epochs": 7}, {"updates": 14, "parts": 3}):
        plan = Plan(Settings(lr=0.8, lr_drop=0.5, drop_every=3, **length), steps=2)
        by_epoch = [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2]
        assert [plan.rate(update) for update in range(14)] == [rate for rate in by_epoch for _ in range(2)]


def test_the_rate_rises_over_a_twentieth_and_falls_to_zero_by_half_a_cosine():
    rates = [Plan(COSINE, steps=7).rate(update) for update in range(100)]
    assert rates[:6] == pytest.approx([0.16, 0.32, 0.48, 0.64, 0.8, 0.8])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[5 + 95 // 2] == pytest.approx(0.4, abs=0.01)  # half way
    assert 0 < rates[-1] < 0.001


def test_a_cosine_of_epochs_is_that_of_as_many_updates():
    plan = Plan(replace(COSINE, updates=0, epochs=20), steps=5)
    assert [plan.rate(update) for update in range(100)] == [Plan(COSINE, 5).rate(update) for update in range(100)]


def test_one_update_is_a_run_too():
    assert Plan(replace(COSINE, updates=1, parts=1), steps=7).rate(0) == 0.8


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"updates": -1}, "settings.updates must be at least 0"),
        ({"parts": 0}, "settings.parts must be at least 1"),
        ({"updates": 3, "parts": 4}, "settings.parts must be at most settings.updates, got 4 of 3"),
        ({"updates": 50, "warmup_updates": 50}, "settings.warmup_updates must end before settings.updates"),
        ({"schedule": "linear"}, "settings.schedule must be one of step, cosine, got 'linear'"),
        ({"train_share": 0.0}, "settings.train_share must be above 0 and at most 1"),
        ({"train_share": 1.5}, "settings.train_share must be above 0 and at most 1"),
        ({"stop_below": 1.0}, "settings.stop_below must be at least 0 and below 1"),
    ],
)
def test_a_run_that_cannot_be_is_refused(changes, says):
    with pytest.raises(SpecError, match=says):
        Settings(**changes)
