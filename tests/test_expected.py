"""What a run would take, by hand."""

from dataclasses import replace

import pytest

from harness.expected import expected_line, expected_seconds, records_of, trained_pairs
from harness.record import Record
from harness.spec import registry
from harness.spec.job import Data, Job, Settings
from harness.store import Store


def job(row: str = "vsepp", **settings) -> Job:
    return Job(Data(), registry.model(row), Settings(**settings))


def ran(of: Job, seconds: float, captions: int = 100) -> Record:
    """A stored run that took so long in all."""
    return Record(
        key=of.key,
        label=of.model.label,
        status="ok",
        job=of.as_dict(),
        family="independent",
        data={"train": {"images": 20, "captions": captions, "notes": []}},
        seconds={"train": seconds - 1, "score": 1.0},
        parameters=1,
        provenance={"commit": "abc"},
    )


def test_pairs_are_epochs_of_captions_or_updates_of_batches():
    assert trained_pairs(job(epochs=3), 100) == 300
    assert trained_pairs(job(epochs=3, train_share=0.5), 100) == 150
    assert trained_pairs(job(updates=40, parts=4, batch=16), 100) == 640


def test_time_follows_the_pairs_and_is_a_median_over_runs():
    stored = [ran(job(epochs=2, seed=seed), seconds) for seed, seconds in enumerate((20, 30, 200))]
    assert expected_seconds([job(epochs=4), job("vsrn")], stored) == [pytest.approx(60), None]
    half = replace(job(epochs=4), data=replace(Data(), train_images=10))  # of 20, with 5 captions each
    assert expected_seconds([half], stored) == [pytest.approx(30)]
    other = replace(job(), data=replace(Data(), name="others", own=True))
    assert expected_seconds([other], stored) == [None]


def test_the_line_says_what_it_rests_on():
    stored = [ran(job(epochs=2), 120)]
    assert expected_line([job(epochs=4)], stored).startswith("about 4 minutes of one worker, by stored runs")
    assert expected_line([job(epochs=1)], stored).startswith("about 1 minute of")
    both = expected_line([job(epochs=4), job("vsrn")], stored)
    assert "; 1 of 2 jobs were never run on these data;" in both
    assert expected_line([job("vsrn")], stored) == "how long: no stored run of these rows on these data tells"
    assert expected_line([], stored) == ""


def test_folders_that_cannot_be_read_tell_nothing(tmp_path):
    (tmp_path / "a" / "records").mkdir(parents=True)
    (tmp_path / "a" / "records" / f"{'0' * 16}.json").write_text("{")
    assert records_of([Store(tmp_path / "a"), Store(tmp_path / "none")]) == []
