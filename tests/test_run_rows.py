"""The door on particular rows and data: ensembles, methods that need boxes, captions that are cut, small sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.store import Store
from tests.test_run import Door

pytestmark = pytest.mark.usefixtures("same_torch_after")


@pytest.fixture
def door(data_folder: Path, tmp_path: Path) -> Door:
    return Door(data_folder, tmp_path / "results")


# Ensembles -----------------------------------------------------------------------------------------------------------

SCAN = ("--suite", "full", "--only", "scan:t2i-avg,scan:i2t-lse")


def full(door: Door) -> Store:
    return Store(door.results / f"full-{door.data.name}")


def test_an_ensemble_is_made_once_from_the_scores_of_its_members(door):
    shown = door(*SCAN).output
    assert "done    scan* seed 1: test Rsum" in shown
    assert "mean scores of scan:t2i-avg seed 1 and scan:i2t-lse seed 1" in shown
    assert "scores  2 matrices for ensembles take 0.0 MiB in full-zoo/scores, safe to delete" in shown
    (made,) = [record for record in full(door).records() if record.members]
    assert (made.label, len(made.members)) == ("scan*", 2)
    assert "| scan\\* " in (full(door).folder / "tables" / "comparison.md").read_text()
    again = door(*SCAN).output
    assert "cached  scan* seed 1" in again
    assert "done" not in again
    assert door(*SCAN, "--dry-run").output.count("cached") == 3


def test_without_ensembles_no_scores_are_kept(door):
    assert "scan*" not in door(*SCAN, "--no-ensembles").output
    assert not full(door).folder.joinpath("scores").exists()
    assert "mean scores of" in door(*SCAN).output  # the weights are there
    assert "scan* seed 1" not in door(*SCAN, "--no-ensembles", "--dry-run").output


def test_an_ensemble_of_a_member_that_failed_is_named_and_not_made(door, monkeypatch):
    def losses(*_: object) -> dict[str, torch.Tensor]:
        raise RuntimeError("no")

    monkeypatch.setattr("baselines.interactive.scan.SCAN.losses", losses)
    assert "missing scan* seed 1: scan:t2i-avg seed 1 failed" in door(*SCAN, code=1).output
    assert [record.status for record in full(door).records()] == ["failed", "failed"]


# Unusual data --------------------------------------------------------------------------------------------------------


def test_captions_that_are_cut_are_counted_and_said(door):
    shown = door("--only", "vsepp", "--set", "settings.max_words=5", "--timing-rounds", "0").output
    assert "; 50 of 50 captions cut to 5 words" in shown  # "a bee and a cat ..." has eight words and two ends
    assert {side["captions_cut"] for side in door.records()["vsepp"].data.values() if isinstance(side, dict)} == {
        26,
        10,
        14,
    }


@pytest.mark.parametrize("method", ["camera", "gsmn"])
def test_a_row_that_needs_boxes_is_left_out_before_the_start(door, method):
    for path in door.data.glob("*_boxes.npy"):
        path.unlink()
    boxless = ("--suite", "full", "--seeds", "0", "--timing-rounds", "0", "--epochs", "1", "--set", "settings.dim=16")
    shown = door(*boxless, "--only", f"{method},vsepp").output
    assert f"Left out: {method} needs boxes, which zoo does not have" in shown
    assert (shown.count("done    "), shown.count("failed  ")) == (1, 0)
    assert door(*boxless, "--only", method, code=2).output.startswith(f"error: Left out: {method} needs boxes")


def test_a_square_grid_needs_no_boxes(door):
    for split in ("train", "dev", "test"):
        for name in ("boxes", "img_sizes", "counts"):
            (door.data / f"{split}_{name}.npy").unlink()
        features = np.load(door.data / f"{split}_ims.npy")
        np.save(door.data / f"{split}_ims.npy", np.concatenate([features, features[:, :1]], axis=1))  # 2 x 2 cells
    grid = ("--suite", "full", "--only", "camera,gsmn", "--seeds", "0", "--timing-rounds", "0", "--epochs", "1")
    shown = door(*grid, "--set", "settings.dim=16", "--set", "model.boxes=grid").output
    assert shown.count("done    ") == 2


def test_images_of_one_region_and_captions_of_one_word_are_data_like_others(door):
    for split in ("train", "dev", "test"):
        counts = np.load(door.data / f"{split}_counts.npy")
        np.save(door.data / f"{split}_counts.npy", np.ones_like(counts))
        path = door.data / f"{split}_caps.txt"
        path.write_text("\n".join(line.split()[1] for line in path.read_text().splitlines()) + "\n")
    door("--only", "chance,vsepp,vsepp+selfalign,vsrn,scan:t2i-lse", "--timing-rounds", "0")
    assert {record.status for record in door.records().values()} == {"ok"}
