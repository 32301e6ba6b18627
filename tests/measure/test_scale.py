"""The protocol at COCO's size: 5,000 images and 25,000 captions, whole and in five folds, in bounded memory."""

import json
import subprocess
import sys

import numpy as np
import pytest

from harness.measure import metrics
from harness.store import Store

IMAGES, PER_IMAGE, FOLD = 5000, 5, 1000
REGIONS, WIDTH = 36, 2048  # of the features the field uses


def folder_like_coco(folder):
    """Random features of the real shape; few numbers of an image are not zero, so the files are mostly holes."""
    rng = np.random.default_rng(0)
    for split, images in (("train", 20), ("dev", 20), ("testall", IMAGES)):
        store = np.lib.format.open_memmap(
            folder / f"{split}_ims.npy", mode="w+", dtype=np.float16, shape=(images, REGIONS, WIDTH)
        )
        store[:, 0, :7] = rng.standard_normal((images, 7))
        store.flush()
        words = rng.integers(0, 400, (images * PER_IMAGE, 9))
        (folder / f"{split}_caps.txt").write_text("".join(" ".join(f"w{n}" for n in row) + "\n" for row in words))


@pytest.mark.slow
def test_five_folds_and_the_whole_gallery_are_at_chance_in_bounded_memory(tmp_path):
    data = tmp_path / "coco"
    data.mkdir()
    folder_like_coco(data)
    command = [sys.executable, "-m", "harness.run", "--data", str(data), "--only", "chance", "--seeds", "0"]
    subprocess.run(
        [*command, "--timing-rounds", "0", "--results", str(tmp_path), "--threads", "1"],
        check=True,
        capture_output=True,
    )

    store = Store(tmp_path / "full-coco")
    (record,) = store.records()
    ranks = store.ranks(record.key)
    assert ranks is not None
    assert (len(ranks.i2t), len(ranks.t2i)) == (IMAGES, IMAGES * PER_IMAGE)
    assert np.bincount(ranks.fold_of_image).tolist() == [FOLD] * (IMAGES // FOLD)
    whole = metrics.summary(ranks.i2t, ranks.t2i)
    folds = metrics.fold_summary(ranks.fold_i2t, ranks.fold_t2i, ranks.fold_of_image, ranks.fold_of_caption)
    assert whole["t2i_meanr"] == pytest.approx(IMAGES / 2, rel=0.03)
    assert folds["t2i_meanr"] == pytest.approx(FOLD / 2, rel=0.03)
    assert folds["t2i_r10"] == pytest.approx(100 * 10 / FOLD, abs=0.3)
    # the score matrix (0.5 GiB), the mapped features (0.7 GiB) and torch itself; not a second matrix
    assert record.peak_memory_mib is not None
    assert record.peak_memory_mib < 2100, json.dumps(record.seconds)
