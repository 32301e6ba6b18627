"""The door of approximate search: trained rows are indexed, what cannot be is said in one line."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from harness import console, run, search_index
from harness.search import app as search_app
from harness.store import Store

pytestmark = pytest.mark.usefixtures("same_torch_after")

SMALL = ("settings.min_count=1", "settings.batch=13", "settings.dim=8", "settings.epochs=1")


@pytest.fixture
def trained(data_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A results folder with a row of embeddings, one of late interaction and one of neither, and its data."""
    arguments = [
        "--suite",
        "full",
        "--untuned",
        "--no-ensembles",
        "--seeds",
        "0",
        "--data",
        str(data_folder),
        "--results",
        str(tmp_path / "results"),
    ]
    arguments += ["--only", "vsepp,chan,scan:t2i-lse", "--timing-rounds", "0", "--threads", "1"]
    result = CliRunner().invoke(run.app, arguments + [word for change in SMALL for word in ("--set", change)])
    assert result.exit_code == 0, result.output
    return tmp_path / "results" / "full-zoo", data_folder


def refused(*arguments: str) -> str:
    """One line, exit 2."""
    result = CliRunner().invoke(search_index.app, arguments)
    assert result.exit_code == 2, result.output
    return result.stderr.removeprefix("error: ").strip()


def test_rows_are_indexed_and_shown_and_the_rest_is_refused(trained, monkeypatch):
    pytest.importorskip("faiss")
    folder, data = str(trained[0]), str(trained[1])
    with monkeypatch.context() as patched:
        patched.setattr(console, "PERSISTENT_SECONDS", -1.0)
        result = CliRunner().invoke(search_index.app, [folder, "--data", data, "--sizes", "30,11"])
    assert result.exit_code == 0, result.output
    assert "  vsepp · faiss hnsw, 30 items: 6 of 8" in result.output.splitlines()
    assert "  chan · word anchors, 11 images: 2 of 6" in result.output.splitlines()
    assert "indexed   vsepp: " in result.output
    assert "left out  scan:t2i-lse has neither embeddings nor a late interaction" in result.output
    store = Store(trained[0])
    (record,) = [record for record in store.records() if record.label == "vsepp"]
    index = store.index(record.key)
    assert index is not None
    assert {entry["items"] for entry in index.entries} == {11, 30}
    assert index.gallery.startswith("19 real images first")  # 7 of test, 12 of training
    assert index.versions["faiss"]
    late = store.index(next(record.key for record in store.records() if record.label == "chan"))
    assert late is not None
    assert {entry["index"] for entry in late.entries} == {"exact", "best products", "muvera sq8", "word anchors"}
    assert {entry["recall"] for entry in late.entries if entry["setting"] in ("", "shortlist=11")} == {1.0}
    table = (trained[0] / "tables" / "approximate-search.csv").read_text()
    assert "vsepp,11,faiss flat" in table
    assert "chan,30,word anchors,shortlist=30" in table

    assert refused(folder) == "chan was trained on zoo: name its folder by --data"
    result = CliRunner().invoke(search_index.app, [folder, "--data", data, "--only", "scan:*"])
    assert result.exit_code == 2
    assert "no row could be indexed" in result.stderr
    assert "'vsrn'" in refused(folder, "--data", data, "--only", "vsrn")
    assert refused(folder, "--sizes", "0,a") == "--sizes takes whole numbers such as 1000,100000, got '0,a'"
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "faiss", None)
        assert refused(folder, "--data", data).startswith("approximate search needs faiss: pip install")
    shutil.rmtree(store.checkpoints(record.key))
    result = CliRunner().invoke(search_index.app, [folder, "--data", data, "--only", "vsepp"])
    assert result.exit_code == 2
    assert "left out  vsepp has no weights here" in result.output
    assert "no row could be indexed" in result.stderr


@pytest.fixture
def files(tmp_path: Path) -> str:
    """Embeddings of 7 images and 14 captions, as many as the test split has."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((7, 6)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "captions.npy", images[np.repeat(np.arange(7), 2)])
    np.save(tmp_path / "scores.npy", rng.standard_normal((7, 14)))
    return f"{tmp_path}/images.npy,{tmp_path}/captions.npy"


def called(*arguments: str) -> str:
    result = CliRunner().invoke(search_index.app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_recorded_row_from_files_is_indexed_where_they_are_named_once_more(data_folder, files, tmp_path):
    pytest.importorskip("faiss")
    results, data = tmp_path / "results", str(data_folder)
    rows = [f"--row=mine={files},scorer=cosine", f"--row=scored={tmp_path}/scores.npy"]
    common = ["--data", data, "--results", str(results), "--timing-rounds", "0"]
    assert CliRunner().invoke(run.app, [*rows, *common]).exit_code == 0
    store = Store(results / "full-zoo")
    output = called(str(store.folder), "--data", data, *rows, "--sizes", "7,29")
    assert "indexed   mine: " in output
    assert "left out  scored has scores, not embeddings" in output
    (mine,) = [record for record in store.records() if record.label == "mine"]
    index = store.index(mine.key)
    assert index is not None
    assert {entry["index"] for entry in index.entries} == {"exact", "faiss flat", "faiss hnsw", "faiss ivf"}
    assert {entry["recall"] for entry in index.entries if entry["index"] in ("exact", "faiss flat")} == {1.0}
    assert index.gallery.startswith("7 real images first")
    assert "mine (given),29,faiss flat" in (store.folder / "tables" / "approximate-search.csv").read_text()

    said = refused(str(store.folder), "--data", data)
    assert "only trained rows keep what can be indexed; name files once more by --row mine=FILE" in said
    asked = CliRunner().invoke(search_app, [f"{store.folder}:mine", "a ball", "--no-show"])
    assert (asked.exit_code, "mine is from files: name them in place of" in asked.stderr) == (2, True)
    said = refused(str(store.folder), "--data", data, f"--row=mine={files}")
    assert "has no row mine of these files and options: `run` it first, by --row" in said


def test_files_alone_are_a_gallery_and_the_table_is_printed(files, tmp_path):
    pytest.importorskip("faiss")
    output = " ".join(called(f"--row=mine={files}", f"--row=unit={files},scorer=cosine").split())
    assert output.count("Galleries: 7 images of the files, in their order.") == 2
    for name in ("mine", "unit"):
        assert f"| {name} (given) | 7 | exact | — | 1.000 |" in output
        assert f"| {name} (given) | 7 | faiss flat | — | 1.000 |" in output
    assert "7 real images first" in called(f"--row=mine={files}", "--sizes", "5,11")
    assert refused() == "need a results folder, or --row NAME=FILE"
    assert "these files hold scores, only embeddings" in refused(f"--row=mine={tmp_path}/scores.npy")


def test_a_folder_without_records_is_refused(tmp_path):
    assert "holds no records of trained rows" in refused(str(tmp_path))
