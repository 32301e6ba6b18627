"""The door of approximate search: trained rows are indexed, what cannot be is said in one line."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import run, search_index
from harness.record import Store

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
    result = CliRunner().invoke(search_index.app, [folder, "--data", data, "--sizes", "30,11"])
    assert result.exit_code == 0, result.output
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


def test_a_folder_without_records_is_refused(tmp_path):
    assert "holds no records of trained rows" in refused(str(tmp_path))
