"""A name means the row that was asked for, never an arm of a question that shares its label."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.record import AskedRecord, Record
from harness.spec import registry
from harness.spec.job import Data, Job, Settings, SpecError
from harness.spec.runs import run_of
from harness.store import Store


def saved(store: Store, label: str, seed: int, **settings) -> str:
    job = Job(Data(), registry.model(label), replace(Settings(), seed=seed, **settings))
    store.save(Record(key=job.key, label=label, family="independent", status="ok", job=job.as_dict()))
    return job.key


@pytest.fixture
def store(tmp_path):
    """VSE++ of two seeds, and as an arm at another rate whose key may come first; SelfAlign's row as an arm alone."""
    store = Store(tmp_path)
    rows = [saved(store, "vsepp", seed) for seed in (1, 2)]
    arms = [saved(store, "vsepp", 1, lr=lr) for lr in (0.1, 0.2, 0.3)]
    alone = saved(store, "vsepp+selfalign", 1)
    told = [[str(place), key] for place, key in enumerate([*arms, alone])]
    question = {"name": "rate", "question": "Which rate?", "base": rows[0], "arms": told}
    store.save_asked(AskedRecord("1" * 16, "full", False, rows, [question], []))
    return store


def test_arms_are_no_rows_where_a_row_has_their_label(store):
    (first, second) = store.asked()[0].rows
    assert [record.key for record in store.rows() if record.label == "vsepp"] == [first, second]
    assert [record.label for record in store.rows()].count("vsepp+selfalign") == 1
    assert run_of(store.rows(), "vsepp").key == first
    assert run_of(store.rows(), "vsepp", 2).key == second


def test_a_run_is_named_by_its_key_where_several_have_its_name(store):
    other = saved(store, "vsepp", 1, lr=0.4)
    with pytest.raises(SpecError, match=f"vsepp seed 1 was run with 2 different settings: .*{other}"):
        run_of(store.rows(), "vsepp")
    assert run_of(store.rows(), other).key == other


def test_a_seed_that_was_not_run_is_told(store):
    with pytest.raises(SpecError, match="vsepp has no seed 7; there are 1, 2"):
        run_of(store.rows(), "vsepp", 7)
