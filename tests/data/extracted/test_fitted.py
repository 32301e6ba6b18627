"""Fewer and smaller numbers: every split is reduced as train is, whenever a run was stopped."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from harness import features
from harness.data import precomp
from harness.data.extracted import components
from harness.data.extracted.backbones import Backbone
from harness.data.extracted.folder import Folder
from harness.data.pictures import Pictures
from tests.photo_folders import door, grey_backbone, stored


@pytest.mark.usefixtures("quick")
def test_every_split_is_projected_as_train_is(tmp_path: Path, pictures: Path, captions: Path) -> None:
    plain, out = tmp_path / "plain", tmp_path / "out"
    assert door(captions, pictures, plain)[0] == 0
    code, said = door(captions, pictures, out, "--reduce", 2, "--batch", 2)
    assert code == 0
    rows = stored(plain, "train").astype(np.float64).reshape(-1, 3)  # 5 pictures of 4 cells; dev and test are not in it
    _, singular, directions = np.linalg.svd(rows - rows.mean(0))
    kept = (singular[:2] ** 2).sum() / (singular**2).sum()
    assert said.splitlines()[0] == (
        f"components: 2 of 3 dimensions keep {kept:.1%} of the variance of 20 training fragments"
    )
    for split in ("train", "dev", "test"):
        expected = (stored(plain, split).astype(np.float64) - rows.mean(0)) @ directions[:2].T
        np.testing.assert_allclose(np.abs(stored(out, split)), np.abs(expected), atol=1e-3)
        assert stored(out, split).dtype == np.float16
        for kind in ("boxes", "img_sizes"):
            np.testing.assert_array_equal(stored(out, split, kind), stored(plain, split, kind))
    with np.load(out / "components.npz") as found:
        np.testing.assert_allclose(found["mean"], rows.mean(0))
        assert found["explained"].sum() == pytest.approx(kept)
    assert not (out / ".full").exists()
    assert precomp.load("train", out).images.dim == 2


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("reduce", [0, 2])
def test_bytes_stand_for_what_would_have_been_stored(
    tmp_path: Path, pictures: Path, captions: Path, reduce: int
) -> None:
    plain, out = tmp_path / "plain", tmp_path / "out"
    assert door(captions, pictures, plain, "--reduce", reduce)[0] == 0
    assert door(captions, pictures, out, "--reduce", reduce, "--int8")[0] == 0
    for split in ("train", "dev", "test"):
        assert stored(out, split).dtype == np.int8
        one, other = (precomp.load(split, path).images.take(slice(None)).features for path in (plain, out))
        assert (np.abs(one - other) <= np.abs(one).max(-1, keepdims=True) / 254 * 1.0001).all()
        assert (one != other).any()


@pytest.mark.parametrize("stop_after", range(8))
def test_a_stopped_reduction_ends_as_an_undisturbed_one(
    tmp_path: Path, pictures: Path, captions: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    """Three batches of train at full width, the fit, three batches of train reduced, dev and test."""
    common = ("--reduce", 2, "--int8", "--batch", 2)
    monkeypatch.setattr(features, "load_backbone", lambda *_: grey_backbone())
    assert door(captions, pictures, tmp_path / "whole", *common)[0] == 0
    marked, mark, read, looked = 0, Folder.mark, Pictures.picture, []

    def stopping(self: Folder, split: str, done: int) -> None:
        nonlocal marked
        if marked == stop_after:
            raise KeyboardInterrupt
        marked += 1
        mark(self, split, done)

    monkeypatch.setattr(Folder, "mark", stopping)
    assert door(captions, pictures, tmp_path / "cut", *common)[0] == 130
    monkeypatch.setattr(Folder, "mark", mark)
    monkeypatch.setattr(Pictures, "picture", lambda self, path: looked.append(path) or read(self, path))
    assert door(captions, pictures, tmp_path / "cut", *common)[0] == 0
    seen = [2, 4, 5, 5, 5, 5, 6, 7][stop_after - 1] if stop_after else 0  # pictures stored before, at any width
    assert sorted(looked) == [f"p{n}.png" for n in range(seen, 7)]
    for path in (tmp_path / "whole").glob("*.np[yz]"):
        assert (tmp_path / "cut" / path.name).read_bytes() == path.read_bytes(), path.name
    assert not (tmp_path / "cut" / ".full").exists()
    code, said = door(captions, pictures, tmp_path / "cut", *common)
    assert (code, said.splitlines()[1:]) == (
        0,
        ["train: 5 pictures, cached", "dev: 1 pictures, cached", "test: 1 pictures, cached"],
    )


@pytest.mark.usefixtures("quick")
def test_the_fit_alone_begins_anew(
    tmp_path: Path, pictures: Path, captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(components, "fit", stopped)
        assert door(captions, pictures, tmp_path / "out", "--reduce", 2)[0] == 130
    assert not (tmp_path / "out" / "components.npz").exists()
    monkeypatch.setattr(Pictures, "picture", stopped)  # pictures of train are not looked at again
    assert door(captions, pictures, tmp_path / "out", "--reduce", 2, "--splits", "train")[0] == 0


@pytest.mark.usefixtures("quick")
def test_dev_and_test_do_not_enter_the_fit(tmp_path: Path, pictures: Path, captions: Path) -> None:
    assert door(captions, pictures, tmp_path / "a", "--reduce", 2, "--splits", "train")[0] == 0
    for name in ("p5.png", "p6.png"):
        Image.new("RGB", (30, 30), "red").save(pictures / name)
    assert door(captions, pictures, tmp_path / "b", "--reduce", 2)[0] == 0
    one, other = ((tmp_path / out / "components.npz").read_bytes() for out in "ab")
    assert one == other
    assert door(captions, pictures, tmp_path / "a", "--reduce", 2, "--splits", "dev,test")[0] == 0  # later, with those
    np.testing.assert_array_equal(stored(tmp_path / "a", "dev"), stored(tmp_path / "b", "dev"))


def test_cells_of_zeros_stay_zero(
    tmp_path: Path, pictures: Path, captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cells(squares: Sequence[Image.Image]) -> Tensor:
        found = grey_backbone().cells(squares)
        found[:, 1, 1] = 0
        return found

    monkeypatch.setattr(features, "load_backbone", lambda *_: Backbone("three", 8, (2, 2), 3, cells))
    said = door(captions, pictures, tmp_path / "out", "--reduce", 2)[1]
    assert "of the variance of 15 training fragments" in said
    for split in ("train", "dev", "test"):
        assert precomp.load(split, tmp_path / "out").images.take(slice(0, 1)).mask.tolist() == [[True] * 3 + [False]]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--reduce", 4), "--reduce 4 is more than the 3 dimensions of the features"),
        (
            ("--reduce", 3, "--limit", 1, "--splits", "dev"),
            "--reduce is fitted on train, which is not among the splits",
        ),
        (("--reduce", -1), "--reduce"),
    ],
)
def test_reductions_that_cannot_be(
    tmp_path: Path, pictures: Path, captions: Path, more: tuple[object, ...], message: str
) -> None:
    code, said = door(captions, pictures, tmp_path / "out", *more)
    assert code == 2
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_fewer_training_fragments_than_components(
    tmp_path: Path, pictures: Path, captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = Backbone("wide", 8, (1, 1), 9, lambda squares: torch.rand(len(squares), 1, 1, 9))
    monkeypatch.setattr(features, "load_backbone", lambda *_: wide)
    code, said = door(captions, pictures, tmp_path / "out", "--reduce", 5)
    assert (code, said) == (2, "error: --reduce 5 needs more training fragments than components, there are 5")


@pytest.mark.usefixtures("quick")
def test_other_components_are_refused(tmp_path: Path, pictures: Path, captions: Path) -> None:
    out = tmp_path / "out"
    assert door(captions, pictures, out, "--reduce", 2, "--splits", "train")[0] == 0
    digest = json.loads((out / "dataset.json").read_text())["components"]
    found = components.load(out / "components.npz")
    assert found.digest == digest
    components.fit(np.random.default_rng(0).random((5, 4, 3)), 2).save(out / "components.npz")
    code, said = door(captions, pictures, out, "--reduce", 2)
    assert code == 2
    assert said == f"error: {out}/components.npz: not the components that dataset.json names; choose another --out"
    (out / "components.npz").unlink()
    assert door(captions, pictures, out, "--reduce", 2) == (2, f"error: {out}/components.npz: no such file")
