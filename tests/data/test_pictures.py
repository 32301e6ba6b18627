"""Pictures as a person would see them, from every kind of container; what cannot be read is one clear line."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.pictures import Pictures, upright
from harness.data.split import DataError

LEFT, RIGHT = (255, 0, 0), (0, 0, 255)
TURNS = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def red_and_blue() -> Image.Image:
    picture = Image.new("RGB", (8, 4), LEFT)
    picture.paste(RIGHT, (4, 0, 8, 4))
    return picture


@pytest.mark.parametrize("orientation", TURNS)
def test_a_picture_is_seen_as_its_camera_was_held(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    red_and_blue().transpose(TURNS[orientation]).save(tmp_path / "a.png", exif=exif)
    picture = Pictures(tmp_path).picture("a.png")
    assert picture.size == (8, 4)
    assert (picture.getpixel((0, 0)), picture.getpixel((7, 3))) == (LEFT, RIGHT)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([[0, 257, 65535]], np.uint16), [0, 1, 255]),
        (np.array([[-1.0, 0.0, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[7, 7, 7]], np.int32), [0, 0, 0]),
    ],
)
def test_deep_grey_keeps_its_shades(pixels: np.ndarray, expected: list[int]) -> None:
    assert np.asarray(upright(Image.fromarray(pixels)))[0].tolist() == [[grey] * 3 for grey in expected]


def test_what_is_transparent_is_white() -> None:
    assert upright(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert upright(Image.new("LA", (1, 1), (10, 255))).getpixel((0, 0)) == (10, 10, 10)


def test_links_tars_and_zips_hold_the_same_pictures(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    red_and_blue().save(store / "a.png")
    links = tmp_path / "links"
    links.mkdir()
    (links / "val").symlink_to(store)
    (links / "val" / "again").symlink_to(links)  # a circle
    for name, mode in (("p.tar", "w"), ("p.tar.gz", "w:gz"), ("p.tar.xz", "w:xz")):
        with tarfile.open(tmp_path / name, mode) as tar:
            tar.add(store / "a.png", "val/a.png")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as packed:
        packed.write(store / "a.png", "val/a.png")
    for name in ("links", "p.tar", "p.tar.gz", "p.tar.xz", "p.zip"):
        pictures = Pictures(tmp_path / name)
        assert pictures.picture(pictures.find("val/a.png")).tobytes() == red_and_blue().tobytes()


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO"])
def test_only_listed_formats_are_opened(tmp_path: Path, kind: str) -> None:
    written = io.BytesIO()
    red_and_blue().save(written, kind)
    (tmp_path / "a.jpg").write_bytes(written.getvalue())
    with pytest.raises(DataError, match=r"a\.jpg is no readable picture: unknown picture format$"):
        Pictures(tmp_path).picture("a.jpg")


def test_palettes_and_print_colours_become_the_colours_they_stand_for(tmp_path: Path) -> None:
    plain = red_and_blue()
    plain.quantize(2).save(tmp_path / "palette.png")
    plain.convert("CMYK").save(tmp_path / "print.tif")
    clear = Image.new("P", (1, 1), 0)
    clear.putpalette([9, 9, 9])
    clear.save(tmp_path / "clear.png", transparency=0)
    pictures = Pictures(tmp_path)
    for name in ("palette.png", "print.tif"):
        found = pictures.picture(name)
        assert (found.mode, found.getpixel((0, 0)), found.getpixel((7, 3))) == ("RGB", LEFT, RIGHT)
    assert pictures.picture("clear.png").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("limit", [31, 15])
def test_more_pixels_than_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Of 8 x 4 pixels: above the limit, where Pillow warns, and above its double, where it stops."""
    red_and_blue().save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 32)
    assert Pictures(tmp_path).picture("a.png").size == (8, 4)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match=r"a\.png is no readable picture: Image size \(32 pixels\) exceeds limit of"):
        Pictures(tmp_path).picture("a.png")


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
