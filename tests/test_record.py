"""What is stored comes back as it was or not at all, and is on disk whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from harness import schema
from harness.atomic import atomic_path, remove_leftovers, write_atomically
from harness.record import ACCURACIES, SCHEMA, Concepts, CostRecord, Ranks, Record, RecordError, RerankRecord
from harness.store import Store

KEY, OTHER, THIRD = "0123456789abcdef", "4567456745674567", "89ab89ab89ab89ab"
RECORD = Record(
    key=KEY,
    label="vsepp",
    status="ok",
    job={"settings": {"seed": 3}},
    family="independent",
    parameters=7,
    best_epoch=0,
    history=[{"epoch": 0, "dev_rsum": 1.25}],
    data={"test": {"notes": ["größer"]}},
)
COST = CostRecord(KEY, "vsepp", {"device": "abacus"}, {"images": 2}, {"rank": [0.1, 0.2]}, 8.0, 4.0)


PAIR = RerankRecord(
    f"{KEY}-{OTHER}",
    "vsepp",
    "scan:t2i-lse",
    {"device": "abacus"},
    {"images": 2, "captions": 3},
    ks=[1, 2, 3],
    accuracy={name: [0.0, 50.0, 100.0] for name in ACCURACIES},
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
        ({"i2t": np.array([np.nan, 0])}, "i2t must be counts (N), got float64"),
        ({"i2t": np.array([True, False])}, "i2t must be counts (N), got bool"),
        ({"t2i": np.array([0, 0, -1])}, "t2i must be from 0"),
        ({"i2t_top": np.zeros((1, 1), np.int32)}, "i2t_top must be (N, k) where N is 2, got (1, 1)"),
        ({"groups": {"a": np.array([True])}}, "group_a must be (M) where M is 3, got (1,)"),
        ({"t2i": np.array([0, 1, 10**6])}, "t2i has 1000000, counted from 0, in a gallery of 2"),
        ({"i2t": np.array([0, 3])}, "i2t has 3, counted from 0, in a gallery of 3"),
        ({"t2i_top": np.array([[0], [1], [2]])}, "t2i_top has 2, counted from 0, in a gallery of 2"),
        (
            {name: np.array([0, 1]) for name in ("fold_i2t", "fold_t2i", "fold_of_image", "fold_of_caption")},
            "fold_i2t has 1, counted from 0, in a gallery of 1",
        ),
        ({"caption_to_image": np.array([0, 1])}, "caption_to_image must be (M) where M is 3, got (2,)"),
        ({"caption_to_image": np.array([0, 0, 0])}, "caption_to_image must name every one of 2 images and no other"),
        ({"caption_to_image": np.array([0, 1, 2])}, "caption_to_image must name every one of 2 images and no other"),
    ],
)
def test_ranks_that_cannot_be_are_refused_by_name(store, changes, says):
    store.save(RECORD, ranks(**changes))
    assert says in refusal(lambda: store.ranks(KEY))


def test_ranks_tell_whose_captions_they_are_and_older_ones_do_not(store):
    store.save(RECORD, ranks(caption_to_image=np.array([0, 1, 1])))
    assert store.ranks(KEY).caption_to_image.tolist() == [0, 1, 1]
    store.save(RECORD, ranks())
    assert store.ranks(KEY).caption_to_image is None


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
    assert store.record(KEY) == RECORD
    assert store.cost(KEY) == COST


def test_pairs_come_back_as_they_were_in_the_order_of_their_keys(store):
    later = replace(PAIR, key=f"{THIRD}-{OTHER}")
    for pair in (later, PAIR):
        store.save_rerank(pair)
    assert store.rerank(KEY, OTHER) == PAIR
    assert store.reranks() == [PAIR, later]
    assert store.rerank(OTHER, KEY) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ks": [1, 2]}, "it has 2 shortlist sizes, but not in i2t_ceiling"),
        ({"accuracy": {"t2i_r1": 7}}, "accuracy.t2i_r1 must be a list, got 7"),
        ({"accuracy": [1, 2, 3]}, "accuracy must be a map"),
        ({"key": f"{KEY}-{THIRD}"}, f"reranks/{KEY}-{OTHER}.json holds the record of {KEY}-{THIRD}"),
        ({"colour": "red"}, "unknown or missing fields: colour"),
        ({"queries": ...}, "unknown or missing fields: queries"),
    ],
)
def test_a_pair_that_cannot_be_trusted_is_refused(store, changes, says):
    store.save_rerank(PAIR)
    store.rerank_path(KEY, OTHER).write_text(changed(PAIR.to_json(), **changes), encoding="utf-8")
    assert says in refusal(store.reranks)


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_a_job_that_runs_again_takes_its_pairs_with_it(store, key):
    other = replace(PAIR, key="1" * 16 + "-" + "2" * 16)
    for pair in (PAIR, other):
        store.save_rerank(pair)
    store.save(replace(RECORD, key=key))
    assert store.reranks() == [other]


def test_operators_join_a_record_and_leave_the_rest_alone(store):
    store.save(RECORD, ranks())
    store.save_cost(COST)
    store.save_rerank(PAIR)
    traced = {"score": {"step_ms": 1.5, "outside_ms": 0.5, "parts": {}, "top": [{"name": "mm", "calls": 2, "ms": 1.0}]}}
    store.save_operators(KEY, traced)
    assert store.record(KEY) == replace(RECORD, operators=traced)
    assert store.ranks(KEY) is not None
    assert (store.cost(KEY), store.reranks()) == (COST, [PAIR])
    assert "records/9999.json is gone" in refusal(lambda: store.save_operators("9999", {}))


def test_what_is_not_there_is_none(store):
    assert (store.record(KEY), store.cost(KEY), store.ranks(KEY), store.records()) == (None, None, None, [])


def changed(text: str, **changes: object) -> str:
    stored = {**json.loads(text), **changes}
    return json.dumps({name: value for name, value in stored.items() if value is not ...})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", f"records/{KEY}.json is not JSON"),
        (RECORD.to_json()[:40], f"records/{KEY}.json is not JSON"),
        ("[1]", f"records/{KEY}.json has no schema number"),
        ("{}", f"records/{KEY}.json has no schema number"),
        (changed(RECORD.to_json(), schema="1"), "has no schema number"),
        (changed(RECORD.to_json(), schema=SCHEMA + 1), f"has schema {SCHEMA + 1}, this version reads up to {SCHEMA}"),
        (changed(RECORD.to_json(), colour="red", smell="none"), "unknown or missing fields: colour, smell"),
        (changed(RECORD.to_json(), label=...), "unknown or missing fields: label"),
    ],
)
def test_records_that_cannot_be_trusted_are_refused_by_name(store, content, says):
    store.save(RECORD)
    store.record_path(KEY).write_text(content, encoding="utf-8")
    assert says in refusal(lambda: store.record(KEY))
    assert f"smoke-zoo/records/{KEY}.json" in refusal(store.records)


def test_a_record_that_is_no_text_is_refused(store):
    store.save(RECORD)
    store.record_path(KEY).write_bytes(b"\xff\xfe{}")
    assert f"records/{KEY}.json" in refusal(lambda: store.record(KEY))


def test_a_newer_record_is_refused_even_if_its_fields_are_new(store):
    store.save(RECORD)
    store.record_path(KEY).write_text(changed(RECORD.to_json(), schema=SCHEMA + 1, new_field=1), encoding="utf-8")
    assert "update the harness" in refusal(lambda: store.record(KEY))


def test_optional_fields_may_be_missing(store):
    store.save(RECORD)
    store.record_path(KEY).write_text(changed(RECORD.to_json(), notes=..., tied_queries=...), encoding="utf-8")
    assert store.record(KEY) == RECORD


def test_no_number_that_json_does_not_have_is_written(store):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.save(replace(RECORD, seconds={"train": float("nan")}))
    assert store.record(KEY) is None


def test_records_are_listed_by_label_and_seed(store):
    for number, (label, seed) in enumerate([("vsrn", 0), ("chance", 2), ("chance", 1)]):
        store.save(replace(RECORD, key=f"{number:016x}", label=label, job={"settings": {"seed": seed}}))
    assert [record.key for record in store.records()] == [f"{number:016x}" for number in (2, 1, 0)]


def test_stored_files_are_text_that_git_can_compare(store):
    store.save(RECORD)
    text = store.record_path(KEY).read_text(encoding="utf-8")
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
    found = store.ranks(KEY)
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
    path = store.ranks_path(KEY)
    path.write_bytes(damage(path.read_bytes()))
    said = refusal(lambda: store.ranks(KEY))
    assert said.startswith((f"smoke-zoo/ranks/{KEY}.npz cannot be read", f"smoke-zoo/ranks/{KEY}.npz is cut short"))


def test_ranks_with_missing_or_unknown_arrays_are_refused(store):
    store.save(RECORD, ranks())
    with np.load(store.ranks_path(KEY)) as stored:
        arrays = dict(stored)
    for wrong in ({n: a for n, a in arrays.items() if n != "t2i"}, arrays | {"colour": np.zeros(1)}):
        np.savez(store.ranks_path(KEY), allow_pickle=False, **wrong)
        assert "unknown or missing arrays: " in refusal(lambda: store.ranks(KEY))


def test_ranks_hold_no_objects(store):
    store.ranks_path(KEY).parent.mkdir(parents=True)
    np.savez(store.ranks_path(KEY), i2t=np.array([print], dtype=object))
    assert "cannot be read" in refusal(lambda: store.ranks(KEY))


def one_concept(**changes) -> Concepts:
    """One caption of one word, one prototype."""
    sizes = dict.fromkeys(("S", "L", "P", "T", "R"), 1) | {"2": 2}
    types = {"counts": "i4", "indices": "i4", "numbers": "f4", "texts": "U1"}
    made = {}
    for name, told in schema.layout(Concepts).items():
        kind, *axes = told.split()
        made[name] = np.zeros([sizes[axis] for axis in axes], types[kind])
    return replace(Concepts(**made), **changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"similarities": np.full((1, 1), np.inf, np.float32)}, "similarities holds numbers that are not finite"),
        ({"regions": np.zeros((1, 2), np.int32)}, "regions must be (S, L) where L is 1, got (1, 2)"),
        ({"regions": np.full((1, 1), -2)}, "regions must be from -1"),
        ({"top_regions": np.zeros((1, 1, 3), np.int32)}, "top_regions must be (P, R, 2) where 2 is 2, got (1, 1, 3)"),
        ({"words": np.array([["\x1b"]])}, "words holds characters that cannot be shown"),
        ({"uses": np.zeros(1)}, "uses must be counts (P), got float64"),
    ],
)
def test_concepts_that_cannot_be_are_refused_by_name(store, changes, says):
    store.save(RECORD, ranks(), one_concept())
    assert store.concepts(KEY) is not None
    store.save(RECORD, ranks(), one_concept(**changes))
    assert says in refusal(lambda: store.concepts(KEY))


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


def no_room(_: BinaryIO) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: '.*/deep/file'") as raised:
        write_atomically(tmp_path / "deep" / "file", no_room)
    assert raised.value.errno == errno.ENOSPC
    assert list((tmp_path / "deep").iterdir()) == []


def test_what_dead_processes_left_goes_and_what_living_ones_write_stays(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead, living = int(done.stdout), os.getpid()
    (here,) = written_meanwhile(tmp_path / "a.json", str(living))
    ours = {here.replace(str(living), str(dead)), f".a.json.{dead}.tmp", f".b.{10**30}.tmp"}
    stays = {here, f".a.json.{living}.tmp", ".notes.tmp", f"a.json.{dead}.tmp", f".a.json.{dead}@elsewhere.tmp"}
    for name in ours | stays:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, tmp_path / "gone")
    assert {path.name for path in tmp_path.iterdir()} == stays


def written_meanwhile(path: Path, process: str) -> list[str]:
    """Names of the files beside a path that are there while it is written."""
    names: list[str] = []
    write_atomically(path, lambda _: names.extend(found.name for found in path.parent.iterdir()))
    path.unlink()
    assert all(process in name for name in names)
    return names


def test_what_another_machine_was_writing_goes_when_it_was_long_ago(tmp_path):
    left = tmp_path / ".a.json.1@elsewhere.tmp"
    left.touch()
    remove_leftovers(tmp_path)
    assert left.exists()
    os.utime(left, (0, 0))
    remove_leftovers(tmp_path)
    assert not left.exists()


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "tables").write_text("no folder")
    with pytest.raises(OSError, match=r"File exists: '.*/tables'$"):
        write_atomically(tmp_path / "tables" / "a.md", lambda file: file.write(b"x"))


def test_hidden_files_beside_records_are_none(store):
    """Such as those that a Mac puts on other systems' disks."""
    store.save(RECORD, ranks())
    (store.folder / "records" / f"._{KEY}.json").write_bytes(b"\x00\x05\x16\x07")
    assert [record.key for record in store.records()] == [KEY]


def test_an_array_that_finds_no_room_names_its_file(store, monkeypatch):
    def half(*_: object, **__: object) -> None:
        raise OSError("10 requested and 0 written")  # as numpy says it

    monkeypatch.setattr(np, "save", half)
    with pytest.raises(OSError, match=r"scores/0a\.npy cannot be written: 10 requested and 0 written"):
        store.save_scores("0a", np.zeros((1, 1), np.float32))


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
    monkeypatch.setattr("harness.store.write_atomically", lambda path, _: order.append(path.parent.name))
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
    store.save_scores(KEY, scores)
    found = store.scores(KEY)
    assert isinstance(found, np.memmap)
    assert np.array_equal(found, scores)
    assert store.scores(OTHER) is None


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.array([{}], object), f"scores/{KEY}.npy cannot be read"),  # nothing is unpickled
        (np.zeros(3, np.float32), f"scores/{KEY}.npy holds float32 of shape (3,), not a score matrix"),
        (np.full((3, 5), np.nan, np.float32), f"scores/{KEY}.npy holds scores that are not finite"),
        (np.zeros((3, 5)), f"scores/{KEY}.npy holds float64 of shape (3, 5), not a score matrix"),
    ],
)
def test_what_is_no_score_matrix_is_refused(store, array, says):
    store.scores_path(KEY).parent.mkdir(parents=True)
    np.save(store.scores_path(KEY), array, allow_pickle=True)
    assert says in refusal(lambda: store.scores(KEY))


def test_scores_cut_short_are_refused(store):
    store.save_scores(KEY, np.ones((5, 3), np.float32))
    path = store.scores_path(KEY)
    path.write_bytes(path.read_bytes()[:-7])
    assert f"scores/{KEY}.npy cannot be read" in refusal(lambda: store.scores(KEY))


def test_scores_of_an_earlier_run_do_not_stay_with_a_failed_record(store):
    store.save_scores(KEY, np.ones((5, 3), np.float32))
    store.save(RECORD)
    assert store.scores(KEY) is None


def test_a_removed_record_leaves_nothing_but_weights(store):
    store.save(RECORD)
    store.save_scores(KEY, np.ones((5, 3), np.float32))
    store.checkpoints(KEY).mkdir(parents=True)
    store.remove(KEY)
    assert [path.name for path in store.folder.rglob(f"{KEY}*")] == [KEY]
