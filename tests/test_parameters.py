"""Trained parameters of our rows, pinned: a change that adds or loses a layer shows.  One that is not pinned is new."""

import json
from pathlib import Path

import pytest

from harness import parameters
from harness.spec import registry

PINNED = json.loads((Path(__file__).parent / "golden" / "parameters.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("label", PINNED)
def test_a_row_trains_as_many_parameters_as_ever(label):
    assert parameters.counted(label) == PINNED[label]


def test_no_count_is_left_of_a_row_that_is_gone():
    assert set(PINNED) <= set(registry.labels())


def test_a_row_that_cannot_be_built_is_a_line_and_the_others_are_counted(monkeypatch):
    def only_chance(label):
        if label != "chance":
            raise OSError("gone")
        return 0

    monkeypatch.setattr(parameters, "counted", only_chance)
    counts, failures = parameters.listed()
    assert counts == {"chance": 0}
    assert len(failures) == len(registry.labels()) - 1
    assert failures[0].endswith(" cannot be built: OSError: gone")
