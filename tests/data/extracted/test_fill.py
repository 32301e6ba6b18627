"""Features of a split, batch by batch: a stopped run ends as an undisturbed one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.extracted.fill import extract
from harness.data.extracted.folder import STORES, Folder
from harness.data.extracted.regions import Extractor
from harness.data.pictures import Pictures
from harness.data.split import DataError
from tests.photo_folders import SIZES, grey_backbone


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_a_stopped_run_ends_as_an_undisturbed_one(tmp_path: Path, pictures: Path, stop_after: int) -> None:
    store, names = Pictures(pictures), list(SIZES)
    extract(Folder(tmp_path / "whole", {}), "dev", names, store, Extractor(grey_backbone()), 3)
    with pytest.raises(KeyboardInterrupt):
        extract(Folder(tmp_path / "cut", {}), "dev", names, store, Extractor(grey_backbone(stop_after=stop_after)), 3)
    assert not (tmp_path / "cut" / "dev_ims.npy").exists()
    shown: list[int] = []
    extract(Folder(tmp_path / "cut", {}), "dev", names, store, Extractor(grey_backbone()), 3, shown.append)
    assert shown[0] == 3 * stop_after  # goes on where it was
    assert shown[-1] == len(names)
    for kind in STORES:
        assert (tmp_path / "cut" / f"dev_{kind}.npy").read_bytes() == (
            tmp_path / "whole" / f"dev_{kind}.npy"
        ).read_bytes()


def test_lost_parts_begin_anew(tmp_path: Path, pictures: Path) -> None:
    store, names = Pictures(pictures), list(SIZES)
    with pytest.raises(KeyboardInterrupt):
        extract(Folder(tmp_path / "cut", {}), "dev", names, store, Extractor(grey_backbone(stop_after=1)), 3)
    (tmp_path / "cut" / "dev_boxes.npy.part").unlink()
    shown: list[int] = []
    extract(Folder(tmp_path / "cut", {}), "dev", names, store, Extractor(grey_backbone()), 3, shown.append)
    assert shown[0] == 0
    assert np.load(tmp_path / "cut" / "dev_ims.npy").all()


def test_cells_are_stored_row_by_row(tmp_path: Path) -> None:
    """A picture white in its upper right quarter has one bright fragment, whose box is that quarter."""
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:10, 20:] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    extract(Folder(tmp_path / "out", {}), "dev", ["a.png"], Pictures(tmp_path), Extractor(grey_backbone()), 1)
    bright = int(np.load(tmp_path / "out" / "dev_ims.npy")[0].mean(-1).argmax())
    assert np.load(tmp_path / "out" / "dev_boxes.npy")[0, bright].tolist() == [20, 0, 40, 10]


def test_features_beyond_float16_are_refused(tmp_path: Path, pictures: Path) -> None:
    extractor = Extractor(grey_backbone(ceiling=1e6))
    with pytest.raises(DataError, match=r"p0\.png gives features beyond float16"):
        extract(Folder(tmp_path / "o", {}), "dev", list(SIZES), Pictures(pictures), extractor, 7)
