"""What is stored comes back as it was or not at all, and is on disk whole or not at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from harness.record import (
    SCHEMA,
    CostRecord,
    Ranks,
    Record,
    RecordError,
    RerankRecord,
    Store,
    atomic_path,
    write_atomically,
)

RECORD = Record(
    key="0123",
    label="vsepp",
    status="ok",
    job={"settings": {"seed": 3}},
    family="independent",
    parameters=7,
    best_epoch=0,
    history=[{"epoch": 0, "dev_rsum": 1.25}],
    data={"test": {"notes": ["größer"]}},
)
COST = CostRecord("0123", "vsepp", {"device": "abacus"}, {"images": 2}, {"rank": [0.1, 0.2]}, 8.0, 4.0)


PAIR = RerankRecord(
    "0123-4567",
    "vsepp",
    "scan:t2i-lse",
    {"device": "abacus"},
    {"images": 2, "captions": 3},
    ks=[1, 2, 3],
    accuracy={"t2i_r1": [0.0, 50.0, 100.0]},
    queries=[16, 16, 1],
    samples_s={"t2i_rerank": [[0.1], [0.2], [0.3]]},
)


def ranks(**changes) -> Ranks:
    """Of two images and three captions."""
    shapes = {"i2t": 2, "t2i": 3, "i2t_top": (2, 1), "t2i_top": (3, 1)}
    arrays = {f.name: np.zeros(shapes.get(f.name, 0), np.int32) for f in fields(Ranks) if f.default is MISSING}
    arrays.pop("groups")
    return replace(Ranks(**arrays, groups={"some": np.array([True, False, True])}), **changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"i2t": np.array([np.nan, 0])}, "i2t must be whole numbers, got float64"),
        ({"i2t": np.array([True, False])}, "i2t must be whole numbers, got bool"),
        ({"t2i": np.array([0, 0, -1])}, "t2i must be from 0"),
        ({"i2t_top": np.zeros((1, 1), np.int32)}, "i2t_top must be as long as i2t, 2, got 1"),
        ({"groups": {"a": np.array([True])}}, "group_a must be (3,) bool"),
        ({"caption_to_image": np.array([0, 1])}, "caption_to_image must be as long as t2i, 3, got 2"),
        ({"caption_to_image": np.array([0, 0, 0])}, "caption_to_image must name every one of 2 images and no other"),
        ({"caption_to_image": np.array([0, 1, 2])}, "caption_to_image must name every one of 2 images and no other"),
    ],
)
def test_ranks_that_cannot_be_are_refused_by_name(store, changes, says):
    store.save(RECORD, ranks(**changes))
    assert says in refusal(lambda: store.ranks("0123"))


def test_ranks_tell_whose_captions_they_are_and_older_ones_do_not(store):
    store.save(RECORD, ranks(caption_to_image=np.array([0, 1, 1])))
    assert store.ranks("0123").caption_to_image.tolist() == [0, 1, 1]
    store.save(RECORD, ranks())
    assert store.ranks("0123").caption_to_image is None


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(RecordError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "smoke-zoo")


# Records -------------------------------------------------------------------------------------------------------------


def test_records_and_costs_come_back_as_they_were(store):
    store.save(RECORD, ranks())
    store.save_cost(COST)
    assert store.record("0123") == RECORD
    assert store.cost("0123") == COST


def test_pairs_come_back_as_they_were_in_the_order_of_their_keys(store):
    later = replace(PAIR, key="0124-4567")
    for pair in (later, PAIR):
        store.save_rerank(pair)
    assert store.rerank("0123", "4567") == PAIR
    assert store.reranks() == [PAIR, later]
    assert store.rerank("4567", "0123") is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ks": [1, 2]}, "reranks/0123-4567 has 2 shortlist sizes, but not in queries, t2i_r1, t2i_rerank"),
        ({"accuracy": {"t2i_r1": 7}}, "accuracy.t2i_r1 must be a list, got 7"),
        ({"accuracy": [1, 2, 3]}, "accuracy must be a map"),
        ({"key": "0123-9999"}, "reranks/0123-4567.json holds the pair '0123-9999'"),
        ({"colour": "red"}, "unknown or missing fields: colour"),
        ({"queries": ...}, "unknown or missing fields: queries"),
    ],
)
def test_a_pair_that_cannot_be_trusted_is_refused(store, changes, says):
    store.save_rerank(PAIR)
    store.rerank_path("0123", "4567").write_text(changed(PAIR.to_json(), **changes), encoding="utf-8")
    assert says in refusal(store.reranks)


@pytest.mark.parametrize("key", ["0123", "4567"])
def test_a_job_that_runs_again_takes_its_pairs_with_it(store, key):
    other = replace(PAIR, key="89ab-cdef")
    for pair in (PAIR, other):
        store.save_rerank(pair)
    store.save(replace(RECORD, key=key))
    assert store.reranks() == [other]


def test_operators_join_a_record_and_leave_the_rest_alone(store):
    store.save(RECORD, ranks())
    store.save_cost(COST)
    store.save_rerank(PAIR)
    store.save_operators("0123", {"score": {"step_ms": 1.5}})
    assert store.record("0123") == replace(RECORD, operators={"score": {"step_ms": 1.5}})
    assert store.ranks("0123") is not None
    assert (store.cost("0123"), store.reranks()) == (COST, [PAIR])
    assert "records/9999.json is gone" in refusal(lambda: store.save_operators("9999", {}))


def test_what_is_not_there_is_none(store):
    assert (store.record("0123"), store.cost("0123"), store.ranks("0123"), store.records()) == (None, None, None, [])


def changed(text: str, **changes: object) -> str:
    stored = {**json.loads(text), **changes}
    return json.dumps({name: value for name, value in stored.items() if value is not ...})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "records/0123.json is not JSON"),
        (RECORD.to_json()[:40], "records/0123.json is not JSON"),
        ("[1]", "records/0123.json has no schema number"),
        ("{}", "records/0123.json has no schema number"),
        (changed(RECORD.to_json(), schema="1"), "has no schema number"),
        (changed(RECORD.to_json(), schema=SCHEMA + 1), f"has schema {SCHEMA + 1}, this version reads up to {SCHEMA}"),
        (changed(RECORD.to_json(), colour="red", smell="none"), "unknown or missing fields: colour, smell"),
        (changed(RECORD.to_json(), label=...), "unknown or missing fields: label"),
    ],
)
def test_records_that_cannot_be_trusted_are_refused_by_name(store, content, says):
    store.save(RECORD)
    store.record_path("0123").write_text(content, encoding="utf-8")
    assert says in refusal(lambda: store.record("0123"))
    assert "smoke-zoo/records/0123.json" in refusal(store.records)


def test_a_record_that_is_no_text_is_refused(store):
    store.save(RECORD)
    store.record_path("0123").write_bytes(b"\xff\xfe{}")
    assert "records/0123.json" in refusal(lambda: store.record("0123"))


def test_a_newer_record_is_refused_even_if_its_fields_are_new(store):
    store.save(RECORD)
    store.record_path("0123").write_text(changed(RECORD.to_json(), schema=SCHEMA + 1, new_field=1), encoding="utf-8")
    assert "update the harness" in refusal(lambda: store.record("0123"))


def test_optional_fields_may_be_missing(store):
    store.save(RECORD)
    store.record_path("0123").write_text(changed(RECORD.to_json(), notes=..., tied_queries=...), encoding="utf-8")
    assert store.record("0123") == RECORD


def test_no_number_that_json_does_not_have_is_written(store):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.save(replace(RECORD, seconds={"train": float("nan")}))
    assert store.record("0123") is None


def test_records_are_listed_by_label_and_seed(store):
    for number, (label, seed) in enumerate([("vsrn", 0), ("chance", 2), ("chance", 1)]):
        store.save(replace(RECORD, key=str(number), label=label, job={"settings": {"seed": seed}}))
    assert [record.key for record in store.records()] == ["2", "1", "0"]


def test_stored_files_are_text_that_git_can_compare(store):
    store.save(RECORD)
    text = store.record_path("0123").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))


# Ranks ---------------------------------------------------------------------------------------------------------------


def test_ranks_come_back_as_they_were(store):
    kept = ranks(
        i2t_top=np.array([[0, 1, 2], [2, 1, 0]], np.int32),
        groups={"a_b": np.array([True] * 3), "c": np.array([False] * 3)},
        caption_to_image=np.array([0, 0, 1], np.int32),
    )
    store.save(RECORD, kept)
    found = store.ranks("0123")
    assert found is not None
    for field in fields(Ranks):
        if field.name != "groups":
            wanted, got = getattr(kept, field.name), getattr(found, field.name)
            np.testing.assert_array_equal(got, wanted)
            assert got.dtype == wanted.dtype
    assert {name: mask.tolist() for name, mask in found.groups.items()} == {"a_b": [True] * 3, "c": [False] * 3}


def flipped(data: bytes) -> bytes:
    """One byte in the middle of the file is another."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda data: data[:50],
        lambda data: data[: len(data) // 2],
        lambda data: b"x" * len(data),
        flipped,
    ],
    ids=["empty", "start", "half", "other", "flipped"],
)
def test_damaged_ranks_are_refused_by_name(store, damage):
    store.save(RECORD, ranks(i2t=np.random.default_rng(0).integers(0, 9999, 4999).astype(np.int32)))
    path = store.ranks_path("0123")
    path.write_bytes(damage(path.read_bytes()))
    assert "smoke-zoo/ranks/0123.npz cannot be read" in refusal(lambda: store.ranks("0123"))


def test_ranks_with_missing_or_unknown_arrays_are_refused(store):
    store.save(RECORD, ranks())
    with np.load(store.ranks_path("0123")) as stored:
        arrays = dict(stored)
    for wrong in ({n: a for n, a in arrays.items() if n != "t2i"}, arrays | {"colour": np.zeros(1)}):
        np.savez(store.ranks_path("0123"), allow_pickle=False, **wrong)
        assert "cannot be read" in refusal(lambda: store.ranks("0123"))


def test_ranks_hold_no_objects(store):
    store.ranks_path("0123").parent.mkdir(parents=True)
    np.savez(store.ranks_path("0123"), i2t=np.array([print], dtype=object))
    assert "cannot be read" in refusal(lambda: store.ranks("0123"))


# Writing -------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def half(file: BinaryIO) -> None:
    file.write(b"half")
    raise Killed


def test_a_crash_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "file"
    write_atomically(path, lambda file: file.write(b"whole"))
    with pytest.raises(Killed):
        write_atomically(path, half)
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_crash_in_the_first_write_leaves_nothing(tmp_path):
    with pytest.raises(Killed):
        write_atomically(tmp_path / "file", half)
    assert list(tmp_path.iterdir()) == []


def test_readers_never_see_a_part_of_a_file(tmp_path):
    path, stop, seen = tmp_path / "file", threading.Event(), set()
    write_atomically(path, lambda file: file.write(b"0" * 9973))

    def read() -> None:
        while not stop.is_set():
            content = path.read_bytes()
            seen.add((len(content), len(set(content))))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(50):
        write_atomically(path, lambda file, digit=b"%d" % (number % 10): file.write(digit * 9973))
    stop.set()
    reader.join()
    assert seen == {(9973, 1)}


def test_ranks_are_on_disk_before_their_record(store, monkeypatch):
    order: list[str] = []
    monkeypatch.setattr("harness.record.write_atomically", lambda path, _: order.append(path.parent.name))
    store.save(RECORD, ranks())
    assert order == ["ranks", "records"]


def test_a_path_is_renamed_only_when_all_went_well(tmp_path):
    with atomic_path(tmp_path / "new" / "file") as temporary:
        temporary.write_text("x")
        assert not (tmp_path / "new" / "file").exists()
    assert (tmp_path / "new" / "file").read_text() == "x"
    assert not temporary.exists()


# Scores that ensembles average


def test_scores_come_back_as_they_were_without_being_read_whole(store):
    scores = np.arange(15, dtype=np.float32).reshape(5, 3)
    store.save_scores("0123", scores)
    found = store.scores("0123")
    assert isinstance(found, np.memmap)
    assert np.array_equal(found, scores)
    assert store.scores("4567") is None


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.array([{}], object), "scores/0123.npy cannot be read"),  # nothing is unpickled
        (np.zeros(3, np.float32), "scores/0123.npy holds float32 of shape (3,), not a score matrix"),
        (np.zeros((3, 5)), "scores/0123.npy holds float64 of shape (3, 5), not a score matrix"),
    ],
)
def test_what_is_no_score_matrix_is_refused(store, array, says):
    store.scores_path("0123").parent.mkdir(parents=True)
    np.save(store.scores_path("0123"), array, allow_pickle=True)
    assert says in refusal(lambda: store.scores("0123"))


def test_scores_cut_short_are_refused(store):
    store.save_scores("0123", np.ones((5, 3), np.float32))
    path = store.scores_path("0123")
    path.write_bytes(path.read_bytes()[:-7])
    assert "scores/0123.npy cannot be read" in refusal(lambda: store.scores("0123"))


def test_scores_of_an_earlier_run_do_not_stay_with_a_failed_record(store):
    store.save_scores("0123", np.ones((5, 3), np.float32))
    store.save(RECORD)
    assert store.scores("0123") is None


def test_a_removed_record_leaves_nothing_but_weights(store):
    store.save(RECORD)
    store.save_scores("0123", np.ones((5, 3), np.float32))
    store.checkpoints("0123").mkdir(parents=True)
    store.remove("0123")
    assert [path.name for path in store.folder.rglob("0123*")] == ["0123"]
