"""A row from a file through the command: recorded, timed, reranked and shown, never ranked."""

from __future__ import annotations

import re

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.data.prepared import prepare_ranked
from harness.data.sources import described
from harness.report.read.groups import collect
from harness.run import app
from harness.store import Store

pytestmark = pytest.mark.usefixtures("same_torch_after")
SMALL = [f"--set=settings.{name}" for name in ("min_count=1", "batch=13", "dim=8", "epochs=1")]


@pytest.fixture
def given_file(data_folder, tmp_path):
    """Embeddings of the folder's test split, good ones, in an order of their own."""
    split = prepare_ranked(described(str(data_folder))[0]).ranked.split
    rng = np.random.default_rng(0)
    images = rng.standard_normal((len(split.images), 6)).astype(np.float32)
    captions = images[split.caption_to_image] + 0.1 * rng.standard_normal((len(split.captions), 6))
    order = rng.permutation(len(captions))
    path = tmp_path / "mine.npz"
    ids = np.array(split.caption_ids)[order]
    np.savez(path, images=images, captions=captions[order].astype(np.float32), caption_ids=ids)
    return path


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_a_row_stands_beside_trained_ones_and_is_never_ranked(data_folder, given_file, tmp_path):
    common = ["--data", str(data_folder), "--results", str(tmp_path / "results"), "--seeds", "0", *SMALL]
    options = [f"--row=mine={given_file},scorer=cosine", "--timing-rounds=1", "--timing-budget=0.1", "--rerank"]
    found = run("--only", "vsepp,scan:t2i-avg", *options, *common)
    assert found.exit_code == 0, found.output
    assert "given   mine: test Rsum 600.0" in found.output
    folder = tmp_path / "results" / "full-zoo"
    (group,) = collect(folder)
    row = group.rows[-1]
    assert (row.name, row.family, row.is_given) == ("mine (given)", "given", True)
    assert row.runs[0].record.parameters is None
    assert row.cost is not None
    assert set(row.cost.samples_s) == {"score", "rank"}
    assert row.cost.query_encode_ms == []
    assert row.cost.index_bytes_per_image == 6 * 4
    assert ("mine (given)", "scan:t2i-avg") in {(pair.retriever, pair.reranker) for pair in group.reranks}
    table = (folder / "tables" / "comparison.md").read_text()
    (line,) = [line for line in table.splitlines() if line.startswith("| mine (given)")]
    assert "**" not in line
    assert "_" not in line
    assert "600.0" in line
    again = run("--only", "vsepp,scan:t2i-avg", *options, *common)
    assert "cached  3 of 3 jobs are recorded already" in again.output


def test_without_features_a_row_runs_alone_and_another_file_is_another_row(data_folder, given_file, tmp_path):
    for path in data_folder.glob("*.npy"):
        path.unlink()
    for stem, images in (("train", 13), ("dev", 5), ("test", 7)):
        ids = [f"{stem}-{image}" for image in range(images) for _ in "ab"]
        (data_folder / f"{stem}_ids.txt").write_text("\n".join(ids))
    common = ["--data", str(data_folder), "--results", str(tmp_path / "results"), "--timing-rounds=0"]
    found = run(f"--row=mine={given_file}", *common)
    assert found.exit_code == 0, found.output
    store = Store(tmp_path / "results" / "full-zoo")
    (record,) = store.records()
    assert (record.label, record.family) == ("mine", "given")
    with np.load(given_file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez(given_file, **arrays | {"images": arrays["images"][::-1], "epoch": np.array([3])})
    assert run(f"--row=mine={given_file}", *common).exit_code == 0
    notes = [each.data["test"]["notes"][-1] for each in store.records() if each.key != record.key]
    assert notes == [f"mine: {given_file.name}: ignored 'epoch'"]
    (group,) = collect(store.folder)
    assert [bool(re.fullmatch(r"mine \(given, file=[0-9a-f]{8}\)", row.name)) for row in group.rows] == [True, True]


def test_what_cannot_be_is_one_line_and_leaves_nothing(data_folder, given_file, tmp_path):
    results = tmp_path / "results"
    common = ["--data", str(data_folder), "--results", str(results), "--timing-rounds=0"]
    np.save(tmp_path / "flat.npy", np.ones((7, 14)))
    for row, says in {
        f"mine={tmp_path}/gone.npz": "no such file",
        f"mine={tmp_path}/flat.npy": "all scores of an image are equal",
        f"vsepp={given_file}": "a method has that name",
        f"mine={given_file},scorer=max-sum": "does not fit these shapes",
    }.items():
        found = run(f"--row={row}", *common)
        assert found.exit_code == 2
        assert says in found.stderr
        assert len(found.stderr.splitlines()) == 1
        assert not (results / "full-zoo").exists()


def test_embeddings_that_do_not_fit_in_memory_are_one_line(data_folder, given_file, tmp_path, monkeypatch):
    with np.load(given_file) as stored:
        np.save(tmp_path / "i.npy", stored["images"])
        np.save(tmp_path / "c.npy", stored["captions"])
    monkeypatch.setattr("harness.phases.given.available_bytes", lambda _: 4 * 21 * 6 * 2 - 2)  # of 7 and 14 items
    common = ["--data", str(data_folder), "--results", str(tmp_path / "results"), "--timing-rounds=0"]
    found = run(f"--row=mine={tmp_path}/i.npy,{tmp_path}/c.npy", *common)
    assert found.exit_code == 2
    assert "may be taken; all pairs are ranked in memory; `search` and `search_index` read" in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_a_matrix_of_scores_reranks_and_has_no_time(data_folder, given_file, tmp_path):
    scores = np.random.default_rng(1).standard_normal((7, 14)).astype(np.float32)
    np.save(tmp_path / "scores.npy", scores)
    np.savez(tmp_path / "both.npz", scores=scores, scores_t2i=-scores)
    common = ["--data", str(data_folder), "--results", str(tmp_path / "results"), "--rerank", "--timing-budget=0.1"]
    rows = [f"--row=mine={given_file}", f"--row=scored={tmp_path}/scores.npy", "--timing-rounds=1"]
    found = run(*rows, *common)
    assert found.exit_code == 0, found.output
    store = Store(tmp_path / "results" / "full-zoo")
    (pair,) = store.reranks()
    assert (pair.retriever, pair.reranker) == ("mine", "scored")
    assert set(pair.samples_s) == {"i2t_retrieve", "t2i_retrieve"}
    keys = {record.label: record.key for record in store.records()}
    for place, label in ((0, "mine"), (-1, "scored")):  # a shortlist of one is the retriever, of all the reranker
        ranks = store.ranks(keys[label])
        assert pair.accuracy["t2i_r1"][place] == 100 * (ranks.t2i < 1).mean()
        assert pair.accuracy["i2t_r1"][place] == 100 * (ranks.i2t < 1).mean()
    assert "| mine (given) | scored (given) |" in (store.folder / "tables" / "rerank.md").read_text().replace("  ", "")
    assert "cached  reranking of 1 pair" in run(*rows, *common).output
    found = run(f"--row=mine={given_file}", f"--row=both={tmp_path}/both.npz", "--timing-rounds=0", *common)
    assert (found.exit_code, "both: --rerank takes one matrix of scores" in found.stderr) == (2, True)
    found = run(f"--row=mine={given_file}", *common)
    assert (found.exit_code, "there is no interactive one" in found.stderr) == (2, True)
