"""A trained row exported and given back has the same ranks, query by query; bad input is one line."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from harness import export
from harness.run import app as run_app
from harness.store import Store

pytestmark = pytest.mark.usefixtures("same_torch_after")
SMALL = [f"--set=settings.{name}" for name in ("min_count=1", "batch=13", "dim=8", "epochs=1")]


def call(app, *arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "300"})


def test_an_exported_row_comes_back_with_the_same_ranks(data_folder, tmp_path):
    results, data = tmp_path / "results", str(data_folder)
    common = ["--data", data, "--results", str(results), "--timing-rounds=0", "--no-ensembles"]
    assert call(run_app, "--only", "vsepp,camera,scan:t2i-avg", "--seeds=0", *common, *SMALL).exit_code == 0
    store = Store(results / "full-zoo")
    for row in ("vsepp", "camera", "scan:t2i-avg"):
        found = call(export.app, row, str(store.folder), "--data", data)
        assert found.exit_code == 0, found.output
        (given,) = re.findall(r"--row (\S+)", found.output)
        back = call(run_app, "--row", given, *common)
        assert back.exit_code == 0, back.output
    records = {record.label: record for record in store.records()}
    for row in ("vsepp", "camera", "scan-t2i-avg"):
        trained, exported = records[row.replace("scan-", "scan:")], records[f"{row}-exported"]
        one, other = store.ranks(trained.key), store.ranks(exported.key)
        assert one is not None
        assert other is not None
        for name in ("i2t", "t2i", "i2t_top", "t2i_top"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), (row, name)
    table = pd.read_csv(store.folder / "exports" / "vsepp-0" / "queries.csv")
    ranks = store.ranks(records["vsepp"].key)
    assert ranks is not None
    assert table[table.direction == "i2t"]["rank"].tolist() == (ranks.i2t + 1).tolist()
    assert table[table.direction == "t2i"]["rank"].tolist() == (ranks.t2i + 1).tolist()
    other = str(shutil.copytree(data_folder, tmp_path / "other"))
    (tmp_path / "other" / "test_caps.txt").write_text("another\n" * 14)
    for arguments, says in {
        ("vsep", str(store.folder)): "did you mean vsepp",
        ("vsepp", str(store.folder), "--seed", "7"): "has no seed 7; there are 0",
        ("vsepp", str(store.folder), "--data", other): f"{other} holds other data than zoo of the jobs, or changed",
        ("vsepp", str(store.folder)): "name its folder by --data",
        ("vsepp", str(tmp_path / "none")): "no such results folder",
        ("vsepp", str(store.folder), "--format", "xls"): "--format must be csv or parquet",
    }.items():
        refused = call(export.app, *arguments)
        assert refused.exit_code == 2
        assert says in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
