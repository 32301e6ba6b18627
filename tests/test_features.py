"""Do pictures become features that read back, whatever the backbone, and does a stopped run end as an unstopped one?"""

import json
import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTModel
from typer.testing import CliRunner

from harness import features
from harness.data import precomp
from harness.data.extracted.folder import Folder
from harness.data.pictures import Pictures
from harness.data.split import DataError
from tests.photo_folders import SIZES, SPLITS, door, grey_backbone, stored


def test_the_folder_written_is_the_folder_read(tmp_path: Path, pictures: Path, captions: Path, vit: Path) -> None:
    out = tmp_path / "mine"
    assert door(captions, pictures, out, "--backbone", vit, "--size", 48, "--batch", 2)[0] == 0
    data = precomp.source(out)
    assert data.name == "mine"
    assert [len(data.load(split).images) for split in ("train", "dev", "test")] == [5, 1, 1]
    train = data.load("train")
    assert train.images.ids == ("0", "1", "2", "3", "4")
    assert train.caption_to_image.tolist() == [0, 1, 1, 2, 2, 2, 3, 4, 4]
    assert train.captions[:3] == ("picture 0, 0", "picture 1, 0", "picture 1, 1")
    taken = train.images.take(slice(None))
    assert train.images.features.dtype == np.float16
    assert taken.features.shape == (5, 9, 12)  # 48 pixels = 3 x 3 patches of 16; no class token
    assert taken.sizes is not None
    assert taken.sizes.tolist() == [list(size) for size in SIZES.values()][:5]
    assert taken.boxes is not None
    np.testing.assert_allclose(taken.boxes[0, [0, 1, 8], :2], [[0, 0], [40 / 3, 0], [80 / 3, 62 / 3]], rtol=1e-6)
    assert not list(out.glob("*.part"))


def test_persons_are_read_back_with_their_identities(tmp_path: Path, pictures: Path, vit: Path) -> None:
    listed = [
        {"split": split, "captions": [f"person {i}"] * (1 + i % 2), "file_path": name, "id": 10 + i % 2}
        for i, (name, split) in enumerate(zip(SIZES, SPLITS, strict=True))
    ]
    (tmp_path / "reid_raw.json").write_text(json.dumps(listed))
    broken = pictures / "p2.png"
    broken.write_bytes(b"no picture")
    common = (pictures, tmp_path / "mine", "--backbone", vit, "--size", 48)
    assert door(tmp_path / "reid_raw.json", *common)[0] == 0
    data = precomp.source(tmp_path / "mine")
    assert data.identities
    assert data.load("train").images.ids == ("p0.png", "p1.png", "p3.png", "p4.png")
    assert [data.load(split).identities for split in precomp.SPLITS] == [("10", "11", "11", "10"), ("11",), ("10",)]
    (tmp_path / "reid_raw.json").write_text(json.dumps([listed[0] | {"id": None}]))
    code, said = door(tmp_path / "reid_raw.json", pictures, tmp_path / "other", "--backbone", vit)
    assert (code, said.count("\n")) == (2, 0)
    assert said.endswith("reid_raw.json: picture 0: id is None, need a text")


def test_folder_and_tar_and_batches_agree(tmp_path: Path, pictures: Path, captions: Path, vit: Path) -> None:
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(pictures, "images")
    common = ("--backbone", vit, "--size", 48)
    assert door(captions, pictures, tmp_path / "a", *common, "--batch", 1)[0] == 0
    assert door(captions, tmp_path / "all.tar", tmp_path / "b", *common, "--batch", 5)[0] == 0
    one, other = (np.load(tmp_path / name / "train_ims.npy") for name in "ab")
    np.testing.assert_allclose(one, other, atol=2e-3)


def test_splits_limit_and_cached(tmp_path: Path, pictures: Path, captions: Path, vit: Path) -> None:
    out, common = tmp_path / "out", ("--backbone", vit, "--size", 48, "--limit", 2)
    assert door(captions, pictures, out, *common, "--splits", "train,test") == (
        0,
        "train: 2 pictures, done\ntest: 1 pictures, done",
    )
    assert not (out / "dev_ims.npy").exists()
    before = (out / "train_ims.npy").stat().st_mtime_ns
    assert door(captions, pictures, out, *common) == (
        0,
        "train: 2 pictures, cached\ndev: 1 pictures, done\ntest: 1 pictures, cached",
    )
    assert (out / "train_ims.npy").stat().st_mtime_ns == before


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, pictures: Path, captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "load_backbone", lambda *_: grey_backbone(stop_after=1))
    code, said = door(captions, pictures, tmp_path / "out", "--batch", 2)
    assert code == 130
    assert said == "interrupted: finished batches are kept; the same command goes on from there"


def test_other_settings_are_refused_and_named(
    tmp_path: Path, pictures: Path, captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "load_backbone", lambda _, size, __: grey_backbone(size))
    assert door(captions, pictures, tmp_path / "out", "--size", 8)[0] == 0
    code, said = door(captions, pictures, tmp_path / "out", "--size", 16)
    assert code == 2
    assert said.endswith("dataset.json: begun with size 8, now 16: repeat those settings or choose another --out")


def test_replaced_pictures_are_not_cached(
    tmp_path: Path, pictures: Path, captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "load_backbone", lambda *_: grey_backbone())
    assert door(captions, pictures, tmp_path / "out")[0] == 0
    (pictures / "p0.png").write_bytes((pictures / "p1.png").read_bytes())
    code, said = door(captions, pictures, tmp_path / "out")
    assert (code, said) == (2, f"error: {tmp_path}/out: train was begun with other pictures; choose another --out")


def test_weights_changed_in_place_are_another_backbone(
    tmp_path: Path, pictures: Path, captions: Path, vit: Path
) -> None:
    common = ("--backbone", vit, "--size", 48)
    assert door(captions, pictures, tmp_path / "out", *common)[0] == 0
    torch.manual_seed(1)
    ViTModel(ViTConfig.from_pretrained(vit)).save_pretrained(vit)
    code, said = door(captions, pictures, tmp_path / "out", *common)
    assert code == 2
    assert "dataset.json: begun with weights " in said
    assert len(said.splitlines()) == 1


@pytest.mark.usefixtures("quick")
def test_pictures_that_stay_as_they_are_are_read_once(
    tmp_path: Path, pictures: Path, captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert door(captions, pictures, tmp_path / "out")[0] == 0
    read: list[str] = []
    real = Pictures.read
    monkeypatch.setattr(Pictures, "read", lambda self, path: read.append(path) or real(self, path))
    assert door(captions, pictures, tmp_path / "out")[0] == 0
    assert read == []
    os.utime(pictures / "p2.png", ns=(0, 0))
    assert door(captions, pictures, tmp_path / "out")[0] == 0  # of the same content
    assert set(read) == {"p2.png"}


@pytest.mark.parametrize("name", ["../x", " ", "a\nb"])
def test_names_that_the_reader_refuses_are_not_written(
    tmp_path: Path, pictures: Path, captions: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "load_backbone", lambda *_: grey_backbone())
    assert door(captions, pictures, tmp_path / "out", "--name", name)[0] == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("quick")
def test_missing_pictures_are_named(tmp_path: Path, pictures: Path, captions: Path) -> None:
    (pictures / "p6.png").unlink()
    assert door(captions, pictures, tmp_path / "out") == (2, f"error: {pictures}: no picture is called p6.png")


@pytest.mark.usefixtures("quick")
def test_a_broken_picture_is_left_out_and_said(tmp_path: Path, pictures: Path, captions: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert door(captions, pictures, whole)[0] == 0
    (pictures / "p1.png").write_bytes(b"GIF")
    code, said = door(captions, pictures, out, "--batch", 2)
    assert code == 0
    assert said.splitlines() == [
        "train: 4 pictures, done",
        "dev: 1 pictures, done",
        "test: 1 pictures, done",
        "1 picture cannot be read and left out (dataset.json says why): p1.png",
    ]
    train, every = precomp.load("train", out), precomp.load("train", whole)
    assert train.images.ids == ("0", "2", "3", "4")
    assert train.captions == tuple(c for c in every.captions if not c.startswith("picture 1,"))
    left = np.delete(np.asarray(every.images.features), 1, axis=0)
    np.testing.assert_array_equal(np.asarray(train.images.features), left)
    kept = json.loads((out / "dataset.json").read_text())["broken"]
    assert kept["train"] == {"p1.png": f"{pictures}: p1.png is no readable picture: unknown picture format"}
    assert door(captions, pictures, out)[1].splitlines()[0] == "train: 4 pictures, cached"


@pytest.mark.usefixtures("quick")
def test_many_broken_pictures_stop_before_the_features(tmp_path: Path, pictures: Path, captions: Path) -> None:
    for name in ("p1.png", "p2.png"):
        (pictures / name).write_bytes(b"GIF")
    code, said = door(captions, pictures, tmp_path / "out")
    assert code == 2
    assert said == (
        f"error: {pictures}: 2 of 7 pictures cannot be read, more than 10%: "
        f"{pictures}: p1.png is no readable picture: unknown picture format"
    )
    assert not (tmp_path / "out" / "dataset.json").exists()


@pytest.mark.usefixtures("quick")
def test_a_split_without_a_whole_picture_is_refused(tmp_path: Path, pictures: Path, captions: Path) -> None:
    (pictures / "p6.png").write_bytes(b"GIF")
    code, said = door(captions, pictures, tmp_path / "out")
    assert (code, said.partition(":")[2].partition(":")[0]) == (2, " no picture of test can be read")


def test_a_coarser_grid_holds_the_means_of_its_cells(tmp_path: Path, pictures: Path, captions: Path, vit: Path) -> None:
    for grid in (0, 2):
        told = ("--backbone", vit, "--size", 64, "--grid", grid)
        assert door(captions, pictures, tmp_path / f"g{grid}", *told)[0] == 0
    whole, coarse = stored(tmp_path / "g0", "dev"), stored(tmp_path / "g2", "dev")
    quarters = whole.astype(np.float32).reshape(len(whole), 2, 2, 2, 2, 12).mean((2, 4)).reshape(len(whole), 4, 12)
    np.testing.assert_allclose(coarse.astype(np.float32), quarters, atol=3e-3)
    assert stored(tmp_path / "g2", "dev", "boxes").shape[1] == 4


def alone(data: Path, out: Path, *more: object) -> tuple[int, str]:
    """The door for data that hold their pictures: exit code and standard error."""
    result = CliRunner().invoke(features.app, [f"--captions={data}", f"--out={out}", *map(str, more)])
    return result.exit_code, result.stderr.strip()


def shards(folder: Path, pictures: Path) -> Path:
    """The seven pictures and their captions, in two shards of train and one of each other split."""
    for shard, numbers in {"train-0": (0, 1), "train-1": (2, 3, 4), "val-0": (5,), "test-0": (6,)}.items():
        folder.mkdir(exist_ok=True)
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for n in numbers:
                tar.add(pictures / f"p{n}.png", f"{n}.png")
                (folder / "said.txt").write_text("".join(f"picture {n}, {c}\n" for c in range(1 + n % 3)))
                tar.add(folder / "said.txt", f"{n}.txt")
    (folder / "said.txt").unlink()
    return folder


def tables(folder: Path, pictures: Path) -> Path:
    """The same as tables that `datasets` saved."""
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    parts = {"train": range(5), "validation": (5,), "test": (6,)}
    made = {
        split: datasets.Dataset.from_dict(
            {
                "image": [{"bytes": (pictures / f"p{n}.png").read_bytes(), "path": None} for n in numbers],
                "captions": [[f"picture {n}, {c}" for c in range(1 + n % 3)] for n in numbers],
                "id": list(numbers),
            }
        ).cast_column("image", datasets.Image())
        for split, numbers in parts.items()
    }
    datasets.disable_progress_bars()
    datasets.DatasetDict(made).save_to_disk(folder)
    return folder


FORMS = {"webdataset": shards, "datasets": tables}
BROKEN = {"webdataset": "train-0.tar/1.png", "datasets": "train-1"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("form", FORMS)
def test_other_forms_become_the_folder_that_json_becomes(
    tmp_path: Path, pictures: Path, captions: Path, form: str
) -> None:
    pytest.importorskip(form, exc_type=ImportError)
    data, out, whole = FORMS[form](tmp_path / "data", pictures), tmp_path / "out", tmp_path / "whole"
    assert door(captions, pictures, whole)[0] == 0
    shown = "\n".join(f"{split}: {count} pictures, {{0}}" for split, count in (("train", 5), ("dev", 1), ("test", 1)))
    assert alone(data, out) == (0, shown.format("done"))
    for path in (p for p in sorted(whole.iterdir()) if p.suffix in (".npy", ".txt")):
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name
    assert alone(data, out) == (0, shown.format("cached"))
    assert alone(data, tmp_path / "o", "--splits", "dev", "--name", "one") == (0, "dev: 1 pictures, done")
    assert precomp.source(tmp_path / "o").load("dev").images.ids == ("5",)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("form", FORMS)
def test_a_broken_picture_of_another_form_is_left_out_and_said(tmp_path: Path, pictures: Path, form: str) -> None:
    pytest.importorskip(form, exc_type=ImportError)
    (pictures / "p1.png").write_bytes(b"GIF")
    data, out = FORMS[form](tmp_path / "data", pictures), tmp_path / "out"
    code, said = alone(data, out)
    assert (code, said.splitlines()[-1]) == (
        0,
        f"1 picture cannot be read and left out (dataset.json says why): {BROKEN[form]}",
    )
    train = precomp.load("train", out)
    assert train.images.ids == ("0", "2", "3", "4")
    assert train.captions == tuple(f"picture {n}, {c}" for n in (0, 2, 3, 4) for c in range(1 + n % 3))


@pytest.mark.usefixtures("quick")
def test_other_captions_of_the_same_pictures_are_not_gone_on_with(tmp_path: Path, pictures: Path) -> None:
    pytest.importorskip("webdataset")
    data, out = shards(tmp_path / "data", pictures), tmp_path / "out"
    assert alone(data, out)[0] == 0
    (tmp_path / "said.txt").write_text("something else\n")
    with tarfile.open(data / "test-0.tar", "w") as tar:
        tar.add(pictures / "p6.png", "6.png")
        tar.add(tmp_path / "said.txt", "6.txt")
    code, said = alone(data, out)
    assert code == 2
    assert "dataset.json: begun with captions " in said
    assert len(said.splitlines()) == 1


def test_what_other_forms_are_refused_for_is_one_line(tmp_path: Path, pictures: Path, captions: Path) -> None:
    out = tmp_path / "out"
    assert alone(captions, out) == (2, f"error: {captions} is JSON, so that --pictures must say where its pictures lie")
    assert alone(captions, out, "--columns", "imge=a") == (
        2,
        "error: --columns knows no role 'imge'; did you mean image?",
    )
    assert alone(pictures, out) == (2, f"error: {pictures}: no tar in it, nor a table of Hugging Face")
    assert not out.exists()


@pytest.mark.parametrize(
    ("module", "file", "said"),
    [
        ("datasets", "state.json", "Hugging Face data need `pip install 'selfalign-harness[hf]'` ("),
        ("webdataset", "train.tar", "shards need `pip install 'selfalign-harness[webdataset]'` ("),
    ],
)
def test_the_absent_library_of_a_form_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, file: str, said: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / file).touch()
    code, shown = alone(tmp_path / "data", tmp_path / "out")
    assert (code, len(shown.splitlines())) == (2, 1)
    assert shown.startswith(f"error: {said}")


def test_bad_input_is_one_line_and_exit_2(tmp_path: Path, pictures: Path, captions: Path) -> None:
    for arguments, message in [
        ((tmp_path / "no.json", pictures, tmp_path / "out"), f"error: {tmp_path}/no.json: no such file"),
        (
            (captions, tmp_path / "no", tmp_path / "out"),
            f"error: {tmp_path}/no: no such folder, tar or zip of pictures",
        ),
        (
            (captions, pictures, tmp_path / "o", "--splits", "val"),
            f"error: {captions}: no split val; it has train, dev, test",
        ),
    ]:
        assert door(*arguments) == (2, message)
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(DataError, match="not written by this program"):
        Folder(tmp_path, {})
