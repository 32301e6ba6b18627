"""Data whose images show identities: what a run measures unasked, and that other data see nothing of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.data.given.lists import Lists
from harness.data.prepared import prepare_ranked
from harness.data.sources import described
from harness.measure.metrics import summary
from harness.phases.truths import _orders
from harness.run import app
from harness.store import Store
from tests.measure.test_identities import slow_places, slow_summary

pytestmark = pytest.mark.usefixtures("same_torch_after")
SMALL = [f"--set=settings.{name}" for name in ("min_count=1", "batch=13", "dim=8", "epochs=1")]
WHOSE = {split: np.arange(count) % 3 for split, count in {"train": 13, "dev": 5, "test": 7}.items()}
HEADINGS = ["mAP@R", "R-P", "R@1", "R@5", "R@10", "mAP", "mINP"]


@pytest.fixture
def persons(data_folder: Path) -> Path:
    """Images by turns of three identities."""
    for split, whose in WHOSE.items():
        (data_folder / f"{split}_identities.txt").write_text("".join(f"person {who}\n" for who in whose))
    return data_folder


def run(data: Path, *arguments: str, code: int = 0) -> str:
    common = ["--data", str(data), "--results", str(data.parent / "results"), "--timing-rounds=0", *SMALL]
    found = CliRunner().invoke(app, [*arguments, *common], env={"COLUMNS": "200"})
    assert found.exit_code == code, found.output
    return found.output


def scored(data: Path, **arrays: np.ndarray) -> str:
    """A row of a file."""
    path = data.parent / "mine.npz"
    np.savez(path, **arrays)
    return f"--row=mine={path}"


def expected(scores: np.ndarray) -> dict[str, dict[str, float]]:
    """scores: (7, 14), two captions an image."""
    images, captions = WHOSE["test"], np.repeat(WHOSE["test"], 2)
    i2t = [slow_places(scores[i].tolist(), set(np.flatnonzero(captions == images[i]))) for i in range(7)]
    t2i = [slow_places(scores[:, c].tolist(), set(np.flatnonzero(images == captions[c]))) for c in range(14)]
    return {"i2t": slow_summary(i2t), "t2i": slow_summary(t2i)}


def test_scores_of_a_file_are_measured_by_hand(persons):
    scores = np.random.default_rng(0).integers(5, size=(7, 14)).astype(np.float32)
    shown = run(persons, scored(persons, scores=scores))
    store = Store(persons.parent / "results" / "full-zoo")
    (record,) = store.records()
    found = store.extended(record.key)
    assert found is not None
    (entry,) = found.truths
    assert (entry["name"], entry["queries"]) == ("identities", {"i2t": 7, "t2i": 14})
    for way, numbers in expected(scores).items():
        assert entry["percent"][way] == pytest.approx(numbers)
    assert re.search(r"truths  mine seed 0: identities i2t mAP \d+\.\d\d, mINP", shown)


def test_trained_rows_are_measured_once_and_shown(persons):
    shown = run(persons, "--only", "vsepp,scan:t2i-avg", "--seeds", "0")
    assert len(re.findall(r"truths  .*: identities i2t mAP .* t2i mAP", shown)) == 2
    folder = persons.parent / "results" / "full-zoo"
    store = Store(folder)
    for record in store.records():
        assert "3 identities" in record.data["test"]["notes"]
        found = store.extended(record.key)
        assert found is not None
        for numbers in found.truths[0]["percent"].values():
            assert min(numbers["minp"], numbers["map"]) > 0
            assert numbers["r1"] <= numbers["r5"] <= numbers["r10"] <= 100
    table = (folder / "tables" / "extended.md").read_text()
    head = next(line for line in table.splitlines() if line.startswith("| method"))
    assert [cell.strip() for cell in head.strip("|").split("|")][3:] == [
        f"{w} {h}" for w in ("i2t", "t2i") for h in HEADINGS
    ]
    assert "identities: every caption of an identity fits every image of it; R@K is rank-K" in table
    assert "truths" not in run(persons, "--only", "vsepp,scan:t2i-avg", "--seeds", "0")


def test_with_an_identity_an_image_trained_rows_find_what_they_find_of_pairs(persons):
    (persons / "test_identities.txt").write_text("a\nb\nc\nd\ne\nf\ng\n")
    run(persons, "--only", "vsepp,scan:t2i-avg", "--seeds", "0")
    store = Store(persons.parent / "results" / "full-zoo")
    for record in store.records():
        found, ranks = store.extended(record.key), store.ranks(record.key)
        assert found is not None
        assert ranks is not None
        usual = summary(ranks.i2t, ranks.t2i)
        for way, numbers in found.truths[0]["percent"].items():
            assert [numbers[f"r{k}"] for k in (1, 5, 10)] == pytest.approx([usual[f"{way}_r{k}"] for k in (1, 5, 10)])
        t2i = found.truths[0]["percent"]["t2i"]
        assert t2i["map"] == t2i["minp"] == pytest.approx(100 * (1 / (ranks.t2i + 1)).mean())  # one right image each


def test_an_ensemble_is_measured_by_the_mean_of_its_members(persons):
    shown = run(persons, "--only", "scan:t2i-avg,scan:i2t-lse", "--seeds", "0")
    assert re.search(r"truths  scan\* seed 0: identities i2t mAP", shown)
    store = Store(persons.parent / "results" / "full-zoo")
    (record,) = [record for record in store.records() if record.members]
    found = store.extended(record.key)
    assert found is not None
    scores = np.mean([np.load(store.scores_path(key)) for key in record.members], 0)
    for way, numbers in expected(scores).items():
        assert found.truths[0]["percent"][way] == pytest.approx(numbers)
    assert re.search(r"\| scan\\?\* ", (store.folder / "tables" / "extended.md").read_text())
    for key in record.members:
        store.scores_path(key).unlink()
        for path in store.checkpoints(key).iterdir():
            path.unlink()
    store.extended_path(record.key).unlink()
    shown = run(persons, "--only", "scan:t2i-avg,scan:i2t-lse", "--seeds", "0")
    assert re.search(r"missing scan\* seed 0: scan:\S+ seed 0 has neither scores nor weights", shown)


def test_a_truth_that_is_asked_for_stands_beside_them(persons):
    split = prepare_ranked(described(str(persons))[0]).ranked.split
    more = persons.parent / "more.json"
    more.write_text(f'{{"t2i": {{"{split.caption_ids[0]}": ["{split.images.ids[0]}"]}}}}')
    scores = np.random.default_rng(0).random((7, 14), np.float32)
    row = scored(persons, scores=scores)
    run(persons, row)
    shown = run(persons, row, "--truths", str(more))
    assert re.search(r"truths  mine seed 0: more t2i mAP@R \d+\.\d\d, R@1 \d+\.\d\d; identities i2t", shown)
    lines = (persons.parent / "results" / "full-zoo" / "tables" / "extended.md").read_text().splitlines()
    (line,) = [line for line in lines if re.match(r"\| mine .*\| more ", line)]
    assert line.count("—") == 7 + 2  # nothing of i2t, no mAP and no mINP


def test_lists_tell_only_where_they_are_whole(persons):
    order = np.argsort(np.random.default_rng(0).random((7, 14)), axis=1)
    t2i = np.tile(np.arange(7), (14, 1))
    shown = run(persons, scored(persons, i2t_ids=order, t2i_ids=t2i))
    assert "truths  mine seed 0: identities" in shown
    short = run(persons, scored(persons, i2t_ids=order[:, :10], t2i_ids=t2i))
    assert "missing mine seed 0: its lists end before the gallery does" in short
    i2t, _ = _orders(Lists(order, t2i)) or (None, None)
    assert i2t is not None
    assert (np.argsort(-i2t, axis=1) == order).all()


@pytest.mark.parametrize("where", ["nowhere", "train"])
def test_data_that_tell_none_are_as_before(data_folder, where):
    """Also where the split that is ranked tells none."""
    if where == "train":
        (data_folder / "train_identities.txt").write_text("p\n" * 13)
    shown = run(data_folder, "--only", "vsepp", "--seeds", "0")
    assert "identities" not in shown
    assert "truths" not in shown
    folder = data_folder.parent / "results" / "full-zoo"
    assert not (folder / "extended").exists()
    assert not (folder / "tables" / "extended.md").exists()


def test_identities_that_do_not_fit_are_refused_in_one_line(persons):
    (persons / "test_identities.txt").write_text("p\n")
    message = run(persons, "--only", "vsepp", "--seeds", "0", code=2).splitlines()[-1]
    assert message == f"error: {persons}/test_identities.txt: 1 lines, need one for each of 7 images: line 2 is missing"
