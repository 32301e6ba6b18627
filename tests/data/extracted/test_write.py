"""Regions of a detector before the cells, in the folder that is read back."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from harness import features
from harness.data import precomp
from harness.data.extracted import components
from tests import detectors
from tests.photo_folders import door, grey_backbone, stored


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
    found = components.load(tmp_path / "out" / "components.npz")
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
