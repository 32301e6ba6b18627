"""Tuned settings are stored whole, found by what the data are, merged row by row, and refused where they contradict."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from harness import tuned
from harness.record import RecordError
from harness.spec.job import Data, Settings
from tests.tuned_values import DESIGN, row, trial, value

DATA = Data(name="zoo", fingerprint="ab" * 32, own=True)
VSEPP = row("vsepp", 10.0, 20.0, 30.0, 25.0, doubled=31.0)


def made(**rows):
    return value(DATA, Settings(), **(rows or {"vsepp": VSEPP}))


def test_what_is_stored_reads_the_same(tmp_path):
    path = tmp_path / "tuned" / "zoo-abababab.json"
    stored = tuned.store(path, made())
    assert tuned.load(path) == stored == made()
    assert [p.name for p in path.parent.iterdir() if not p.name.startswith(".")] == [path.name]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda v: v["rows"]["vsepp"].update(winner=1), "tuned/zoo.json: rows.vsepp.winner must be the best"),
        (lambda v: v["rows"]["vsepp"].update(edge=""), "tuned/zoo.json: rows.vsepp.edge must be 'high'"),
        (lambda v: v["rows"]["vsepp"].update(outward=1), "rows.vsepp.outward must be 0, or 1 where the last trial's"),
        (
            lambda v: v["rows"]["vsepp"]["trials"][1].update(lr="fast"),
            "tuned/zoo.json: rows.vsepp: trials.1: lr must be a float",
        ),
        (lambda v: v["rows"]["vsepp"]["trials"][1].update(warmup_updates=20), "trials.1.warmup_updates must be from 1"),
        (lambda v: v["rows"]["vsepp"]["trials"][1].update(best_part=5), "trials.1.best_part must be from 1 to 4"),
        (lambda v: v["rows"]["vsepp"]["trials"][1].update(best_part=None), "trials.1.best_part must be there where"),
        (lambda v: v["rows"]["vsepp"]["trials"][1].update(lr=0), "trials.1.lr must be positive"),
        (lambda v: v["rows"]["vsepp"]["doubled"].update(lr=0.01), "doubled.lr must be the winner's, 0.02"),
        (lambda v: v["rows"]["vsepp"]["trials"].append(v["rows"]["vsepp"]["trials"][0]), "trials holds one twice"),
        (lambda v: v["design"].update(parts=2), "trials.0.parts must be at most 2"),
        (lambda v: v["design"].pop("rates"), "design: has unknown or missing fields: rates"),
        (lambda v: v["settings"].update(batch=3), "key must be the hash of what it holds"),
    ],
)
def test_a_value_that_contradicts_itself_is_one_line(tmp_path, spoil, says):
    stored = json.loads(made().to_json())
    spoil(stored)
    path = tmp_path / "tuned" / "zoo.json"
    path.parent.mkdir()
    path.write_text(json.dumps(stored))
    with pytest.raises(RecordError) as refusal:
        tuned.load(path)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_best_is_the_highest_then_the_smaller_rate_then_the_shorter_warm_up():
    assert tuned.best([(0.02, 5, 7.0), (0.01, 16, 7.0), (0.01, 5, 7.0), (0.01, 4, None)]) == 2
    assert tuned.best([(0.01, 5, 7.0), (0.02, 5, 7.5)]) == 1
    assert tuned.best([(0.01, 5, None)]) is None


def test_rows_tuned_later_are_added_and_none_is_lost_to_another_writer(tmp_path):
    path = tmp_path / "zoo.json"
    labels = ("vsepp", "vsrn", "camera", "saem", "cvse")
    with ThreadPoolExecutor(len(labels)) as writers:
        list(writers.map(lambda label: tuned.store(path, made(**{label: row(label, 1.0, 2.0)})), labels))
    assert set(tuned.load(path).rows) == set(labels)


def test_a_row_is_replaced_by_one_of_as_many_trials_or_of_another_recipe():
    few, same = row("vsepp", 1.0, 2.0), row("vsepp", 9.0, 8.0, 7.0, 6.0)
    other = row("vsepp", 1.0, 2.0, model={**VSEPP["model"], "recipes": {"vsepp": 99}})
    assert tuned.merged(made(), made(vsepp=few)) == made()
    assert tuned.merged(made(), made(vsepp=same)) == made(vsepp=same)
    assert tuned.merged(made(), made(vsepp=other)) == made(vsepp=other)


def test_of_other_data_nothing_is_kept():
    new = value(replace(DATA, fingerprint="cd" * 32), Settings(), vsrn=row("vsrn", 1.0, 2.0))
    assert tuned.merged(made(), new) == new


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (value(DATA, Settings(batch=3), vsrn=row("vsrn", 1.0, 2.0)), "settings.batch 128 and 3"),
        (value(replace(DATA, dev_images=7), Settings(), vsrn=row("vsrn", 1.0, 2.0)), "data.dev_images 500 and 7"),
        (tuned.made(made().data, made().settings, {**DESIGN, "updates": 30}, {}), "design.updates 20 and 30"),
    ],
)
def test_trials_under_other_conditions_are_no_equals(tmp_path, other, says):
    path = tmp_path / "tuned" / "zoo.json"
    before = tuned.store(path, made())
    with pytest.raises(RecordError, match=rf"tuned/zoo.json: tuned before under other conditions \({says}\)"):
        tuned.store(path, other)
    assert tuned.load(path) == before


def test_a_folder_of_ones_own_is_found_by_its_fingerprint_whatever_its_name(tmp_path):
    path = tmp_path / tuned.file_name(made().data, own=True)
    tuned.store(path, made())
    assert path.name == "zoo-abababab.json"
    assert tuned.find([tmp_path], "renamed", DATA.fingerprint, own=True) == (path, made())
    assert tuned.find([tmp_path], "zoo", "abababab" + "0" * 56, own=True) is None
    assert tuned.find([tmp_path], "zoo", "0" * 64, own=True) is None


def test_embedded_data_are_found_by_name_and_fingerprint_in_the_first_folder(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    first, second = made(), made(vsrn=row("vsrn", 1.0, 2.0))
    tuned.store(here / "scenes.json", first)
    tuned.store(there / "scenes.json", second)
    assert tuned.find([here, there], "scenes", DATA.fingerprint, own=False) == (here / "scenes.json", first)
    assert tuned.find([there, here], "scenes", DATA.fingerprint, own=False) == (there / "scenes.json", second)
    assert tuned.find([here, there], "scenes", "0" * 64, own=False) is None


def test_copies_in_a_results_folder_go_by_their_key(tmp_path):
    tuned.keep(tmp_path, made())
    tuned.keep(tmp_path, made())
    assert tuned.kept(tmp_path) == {made().key: made()}
    (tmp_path / "tuned" / f"{made().key}.json").rename(tmp_path / "tuned" / ("0" * 16 + ".json"))
    with pytest.raises(RecordError, match=f"holds the record of {made().key}"):
        tuned.kept(tmp_path)


def test_a_trial_that_failed_has_no_score_and_never_wins():
    one = row("vsepp", None, 20.0)
    assert (one["winner"], one["trials"][0]["best_part"]) == (1, None)
    assert made(vsepp=one).rows["vsepp"]["trials"][0] == trial(0.01, 5, None)
