"""Does the reader find out by itself how a folder in the field's layout is meant, and refuse what cannot be meant?"""

import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.data import precomp
from harness.data.int8 import encoded
from harness.data.split import DataError, Images, Split

REGIONS, DIM = 3, 5


def fragments(images: int, seed: int = 0) -> np.ndarray:
    """(images, REGIONS, DIM) float32."""
    return np.random.default_rng(seed).standard_normal((images, REGIONS, DIM), dtype=np.float32)


def write(
    folder: Path, features: np.ndarray, captions: Sequence[str], ids: Sequence[str] | None = None, split: str = "test"
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{split}_ids.txt").unlink(missing_ok=True)
    np.save(folder / f"{split}_ims.npy", features)
    (folder / f"{split}_caps.txt").write_text("".join(f"{c}\n" for c in captions), encoding="utf-8", newline="")
    if ids is not None:
        (folder / f"{split}_ids.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8", newline="")
    return folder


def sentences(n: int) -> list[str]:
    return [f"caption {i}" for i in range(n)]


def refusal(folder: Path, split: str = "test") -> str:
    """The message of the DataError that loading raises; one line that names the folder."""
    with pytest.raises(DataError) as error:
        precomp.load(split, folder)
    message = str(error.value)
    assert str(folder) in message
    assert "\n" not in message
    return message.removeprefix(str(folder))


# How captions find their image ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=7),
    repeated=st.booleans(),
    ids=st.sampled_from(["none", "image", "caption"]),
    seed=st.integers(0, 99),
)
def test_any_way_to_write_a_folder_reads_the_same(
    tmp_path: Path, counts: list[int], repeated: bool, ids: str, seed: int
) -> None:
    """Images with `counts` captions each; features per image or caption; ids per image, per caption or none."""
    told_by_rows = ids == "none" and repeated
    if ids != "caption" and not told_by_rows:
        counts = [counts[0]] * len(counts)  # only ids per caption, or rows per caption, can tell uneven numbers
    owner = [image for image, count in enumerate(counts) for _ in range(count)]
    features = fragments(len(counts), seed)
    names = [f"p{image}" for image in range(len(counts))]
    written = {"none": None, "image": names, "caption": [names[i] for i in owner]}[ids]
    write(tmp_path, features[owner] if repeated else features, sentences(len(owner)), written)

    split = precomp.load("test", tmp_path)

    assert split.caption_to_image.tolist() == owner
    np.testing.assert_array_equal(split.images.take(slice(None)).features, features)
    assert split.images.ids == tuple(names if written else [f"test-{i}" for i in range(len(counts))])
    low, high = min(counts), max(counts)
    assert split.notes[0].startswith(f"{low} caption" if low == high else f"{low} to {high} captions")


def test_ids_that_number_captions_say_nothing_of_images(tmp_path: Path) -> None:
    write(tmp_path, fragments(2), sentences(6), [str(i) for i in range(10, 16)])
    split = precomp.load("test", tmp_path)
    assert split.caption_to_image.tolist() == [0, 0, 0, 1, 1, 1]
    assert split.images.ids == ("test-0", "test-1")
    assert split.notes == ("3 captions per image", "ids number the captions", "ids made from positions")


def test_no_image_is_dropped_for_a_round_number(tmp_path: Path) -> None:
    """Flickr30K's dev split has 1,014 images; published code silently reads 1,000."""
    write(tmp_path, fragments(1014), sentences(5070), [str(i // 5) for i in range(5070)], split="dev")
    split = precomp.load("dev", tmp_path)
    assert (len(split.images), len(split.captions), split.fold_images) == (1014, 5070, 0)
    assert split.notes == ("5 captions per image", "ids per caption")


@pytest.mark.parametrize(
    ("rows", "captions", "ids", "message"),
    [
        (3, 7, None, "captions do not spread evenly over 3 images (7 captions, 3 feature rows, no ids)"),
        (7, 3, None, "captions do not spread evenly over 7 images (3 captions, 7 feature rows, no ids)"),
        (3, 6, "abcd", "the ids fit neither captions nor feature rows (6 captions, 3 feature rows, 4 ids)"),
        (6, 6, "abcd", "captions do not spread evenly over 4 images (6 captions, 6 feature rows, 4 ids)"),
        (3, 6, "aab", "1 ids are repeated, though there is not one per caption (6 captions, 3 feature rows, 3 ids)"),
        (2, 4, "abab", "id a comes back after other ids: the captions of an image must follow one another"),
        (3, 4, "aabb", "the features have neither a row for each of 2 images nor one per caption"),
        (4, 4, "aabb", "feature rows 0 and 1 differ, though they should be one image"),
    ],
)
def test_numbers_that_do_not_fit(tmp_path: Path, rows: int, captions: int, ids: str | None, message: str) -> None:
    write(tmp_path, fragments(rows), sentences(captions), ids)
    assert refusal(tmp_path).startswith(f"/test_*: {message}")


def test_repeated_rows_under_ids_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, np.repeat(fragments(3), 2, axis=0), sentences(6), "abcdef")
    assert "most feature rows repeat the one before" in refusal(tmp_path)


def test_repeats_sees_across_its_chunks() -> None:
    features = fragments(4)[[0, 0, 1, 1, 1, 2, 3]]
    expected = [False, True, False, True, True, False, False]
    for chunk in (1, 2, 3, 100):
        assert precomp.repeats(features, chunk).tolist() == expected


# COCO ----------------------------------------------------------------------------------------------------------------


def test_testall_is_the_test_split_in_folds(tmp_path: Path) -> None:
    write(tmp_path, fragments(1000), sentences(1000), split="test")
    write(tmp_path, fragments(3000), sentences(6000), split="testall")
    split = precomp.load("test", tmp_path)
    assert (len(split.images), split.fold_images) == (3000, precomp.COCO_FOLD)
    assert "split testall" in split.notes


@pytest.mark.parametrize(("images", "name"), [(1000, "testall"), (1009, "testall"), (2000, "test")])
def test_no_folds_otherwise(tmp_path: Path, images: int, name: str) -> None:
    write(tmp_path, fragments(images), sentences(images), split=name)
    assert precomp.load("test", tmp_path).fold_images == 0


def test_testall_without_features_does_not_hide_test(tmp_path: Path) -> None:
    write(tmp_path, fragments(2), sentences(2), split="test")
    (tmp_path / "testall_caps.txt").write_text("a\n")
    assert len(precomp.load("test", tmp_path).images) == 2


# Text ----------------------------------------------------------------------------------------------------------------


def test_quirks_of_text_files_are_repaired_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "x_caps.txt"
    path.write_bytes("\ufeffA dog\r\n a  Hündchen \r\nline\u2028break\x85inside\n\n\n".encode())
    lines, notes = precomp.read_lines(path)
    assert lines == ["A dog", "a Hündchen", "line break inside"]
    assert notes == [
        "x_caps.txt: byte order mark",
        "x_caps.txt: CRLF line ends",
        "x_caps.txt: stray blanks in 2 lines",
        "x_caps.txt: 2 blank lines at the end",
    ]


def test_a_clean_file_needs_no_note_nor_a_last_line_feed(tmp_path: Path) -> None:
    path = tmp_path / "x_caps.txt"
    path.write_bytes(b"A dog\nA cat")
    assert precomp.read_lines(path) == (["A dog", "A cat"], [])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\n\nb\n \t\nc\n", "2 empty lines: 2, 4"),
        (b"\n" * 12 + b"a\n", "12 empty lines: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ..."),
        (b"a\nb\xff\n", "line 2 is not UTF-8"),
        (b"\n\n", "the file is empty"),
        (b"", "the file is empty"),
    ],
)
def test_text_that_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    write(tmp_path, fragments(2), sentences(2))
    (tmp_path / "test_caps.txt").write_bytes(data)
    assert refusal(tmp_path).startswith(f"/test_caps.txt: {message}")


# Arrays --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_features_stay_a_memory_map(tmp_path: Path, dtype: type) -> None:
    write(tmp_path, fragments(2).astype(dtype), sentences(4))
    images = precomp.load("test", tmp_path).images
    assert isinstance(images.features, np.memmap)
    assert images.take(np.array([1])).features.dtype == np.float32


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(4, np.float32), "features have shape (4,), need (images, fragments, width)"),
        (np.ones((4, 0, 7), np.float32), "features have shape (4, 0, 7)"),
        (np.ones((4, 3, 7), np.int64), "features are int64, need float16, float32, float64 or int8 with scales"),
        (np.full((4, 3, 7), None), "holds Python objects, which are not read"),
    ],
)
def test_features_of_another_kind(tmp_path: Path, array: np.ndarray, message: str) -> None:
    write(tmp_path, array, sentences(4))
    assert refusal(tmp_path).startswith(f"/test_ims.npy: {message}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (pickle.dumps([1, 2]), "pickle, archive or the like, no .npy"),
        (b"PK\x03\x04 as an .npz begins", "pickle, archive or the like, no .npy"),
        (b"\x93NUMPY\x01\x00", "truncated or damaged"),
    ],
)
def test_files_that_are_no_arrays(tmp_path: Path, data: bytes, message: str) -> None:
    write(tmp_path, fragments(2), sentences(2))
    (tmp_path / "test_ims.npy").write_bytes(data)
    assert refusal(tmp_path).startswith(f"/test_ims.npy: {message}")


def test_truncated_arrays(tmp_path: Path) -> None:
    path = write(tmp_path, fragments(2), sentences(2)) / "test_ims.npy"
    path.write_bytes(path.read_bytes()[:-4])
    assert refusal(tmp_path).startswith("/test_ims.npy: truncated or damaged")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite(tmp_path: Path, value: float) -> None:
    features = fragments(4)
    features[2, 1, :2] = value
    write(tmp_path, features, sentences(4), "abcd")
    assert refusal(tmp_path) == "/test_ims.npy: 2 features are not finite, first in row 2 (image c)"


def one_bad(folder: Path, row: int) -> str:
    """The refusal of 97 images with one feature that is NaN; "" where they are read."""
    features = fragments(97)
    features[row, 1, 2] = np.nan
    return said(write(folder, features, sentences(97)))


def test_all_features_of_a_small_file_are_looked_at_and_some_of_a_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = f"{tmp_path}/test_ims.npy: 1 features are not finite, first in row"
    assert one_bad(tmp_path, 50) == f"{says} 50 (image test-50)"
    monkeypatch.setattr(precomp, "CHECKED_WHOLE", 97 * REGIONS * DIM)
    assert one_bad(tmp_path, 50) == f"{says} 50 (image test-50)"
    monkeypatch.setattr(precomp, "CHECKED_WHOLE", 97 * REGIONS * DIM - 1)
    assert one_bad(tmp_path, 50) == ""
    assert "in the 16 images looked at, first in row 96" in one_bad(tmp_path, 96)


def test_features_found_bad_as_they_are_read_name_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precomp, "CHECKED_WHOLE", 0)
    assert one_bad(tmp_path, 50) == ""
    with pytest.raises(DataError) as error:
        precomp.load("test", tmp_path).first(60).images.take(slice(None))
    says = "1 features are NaN or infinite in this batch, first in feature row 50"
    assert str(error.value) == f"{tmp_path}/test_ims.npy: {says}"


def test_check_finite_looks_at_every_image_it_is_asked_to() -> None:
    features = fragments(7)
    features[5, 0, 0] = features[6] = np.nan
    images = Images(features, np.arange(7), tuple("abcdefg"))
    precomp.check_finite(images, np.arange(5))
    for batch in (1, 2, 7):
        with pytest.raises(
            DataError, match=rf"{1 + REGIONS * DIM} features are not finite, first in row 5 \(image f\)"
        ):
            precomp.check_finite(images, batch=batch)


def with_extras(folder: Path, boxes: str, sizes: str) -> Split:
    write(folder, fragments(2), sentences(4))
    np.save(folder / f"test_{boxes}.npy", np.arange(2 * REGIONS * 4).reshape(2, REGIONS, 4))
    np.save(folder / f"test_{sizes}.npy", np.array([[640, 480], [333, 500]]))
    np.save(folder / "test_counts.npy", np.array([REGIONS, 1]))
    return precomp.load("test", folder)


@pytest.mark.parametrize(("boxes", "sizes"), [("boxes", "img_sizes"), ("ims_bbx", "ims_size")])
def test_extras_and_their_other_names(tmp_path: Path, boxes: str, sizes: str) -> None:
    taken = with_extras(tmp_path, boxes, sizes).images.take(np.array([1]))
    assert taken.boxes is not None
    assert taken.boxes[0, 0].tolist() == [12, 13, 14, 15]
    assert taken.sizes is not None
    assert taken.sizes.tolist() == [[333, 500]]
    assert taken.mask.tolist() == [[True, False, False]]
    assert not taken.features[0, 1:].any()


def test_feat_is_another_name_of_ims(tmp_path: Path) -> None:
    write(tmp_path, fragments(2), sentences(4))
    (tmp_path / "test_ims.npy").rename(tmp_path / "test_feat.npy")
    assert len(precomp.load("test", tmp_path).images) == 2


@pytest.mark.parametrize("split", ["train", "dev", "test"])
@pytest.mark.parametrize("names", [("ims", "feat"), ("boxes", "ims_bbx"), ("img_sizes", "ims_size")])
def test_an_array_under_two_names_is_refused(tmp_path: Path, split: str, names: tuple[str, str]) -> None:
    write(tmp_path, fragments(2), sentences(4), split=split)
    for name in names:
        np.save(tmp_path / f"{split}_{name}.npy", fragments(2))
    says = f": {split}_{names[0]}.npy and {split}_{names[1]}.npy are one array's names, keep one file"
    assert refusal(tmp_path, split) == says
    with pytest.raises(DataError, match=f"{says}$"):
        precomp.source(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("boxes", np.ones((2, REGIONS, 5)), "shape (2, 3, 5), need (2, 3, 4) to go with the features"),
        ("img_sizes", np.ones((4, 2)), "shape (4, 2), need (2, 2) to go with the features"),
        ("ims_size", np.array([["640", "480"]] * 2), "<U3, need numbers"),
        ("counts", np.ones((2, 1), int), "shape (2, 1), need (2,) to go with the features"),
        ("counts", np.ones(2), "float64, need whole numbers"),
        ("counts", np.array([0, REGIONS + 1]), "from 0 to 4, need 1 to 3 fragments"),
    ],
)
def test_extras_that_do_not_fit(tmp_path: Path, name: str, array: np.ndarray, message: str) -> None:
    write(tmp_path, fragments(2), sentences(4))
    np.save(tmp_path / f"test_{name}.npy", array)
    assert refusal(tmp_path) == f"/test_{name}.npy: {message}"


# Bytes ---------------------------------------------------------------------------------------------------------------


def in_bytes(folder: Path, features: np.ndarray, captions: int) -> Path:
    codes, scales = encoded(features)
    write(folder, codes, sentences(captions))
    np.save(folder / "test_ims_scales.npy", scales)
    return folder


@pytest.mark.parametrize("repeated", [False, True])
def test_bytes_are_read_as_the_numbers_they_stand_for(tmp_path: Path, repeated: bool) -> None:
    features = fragments(4)
    features[2, 1:] = 0
    stored = np.repeat(features, 2, axis=0) if repeated else features
    images = precomp.load("test", in_bytes(tmp_path, stored, 8)).images
    assert len(images) == 4
    taken = images.take(np.array([2, 0]))
    bound = np.abs(features[[2, 0]]).max(-1, keepdims=True) / 254
    assert (np.abs(taken.features - features[[2, 0]]) <= bound * 1.0001).all()
    assert taken.mask.tolist() == [[True, False, False], [True, True, True]]
    assert taken.features.dtype == np.float32


def test_a_vector_of_bytes_per_image(tmp_path: Path) -> None:
    codes, scales = encoded(fragments(4)[:, :1])
    write(tmp_path, codes[:, 0], sentences(4))
    np.save(tmp_path / "test_ims_scales.npy", scales)
    np.testing.assert_allclose(
        precomp.load("test", tmp_path).images.take(slice(None)).features, fragments(4)[:, :1], atol=0.02
    )


def test_scales_are_a_part_of_what_the_data_are(tmp_path: Path) -> None:
    in_bytes(tmp_path, fragments(4), 4)
    before = precomp.source(tmp_path).fingerprint
    scales = np.load(tmp_path / "test_ims_scales.npy")
    np.save(tmp_path / "test_ims_scales.npy", scales * 2)
    assert precomp.source(tmp_path).fingerprint != before


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        (None, "/test_ims.npy: features are int8, need test_ims_scales.npy beside them"),
        (np.ones(4), "/test_ims_scales.npy: shape (4,), need (4, 3) to go with the features"),
        (-np.ones((4, 3)), "/test_ims_scales.npy: from -1.0, need scales of 0 and above"),
        (np.full((4, 3), np.nan), "/test_ims_scales.npy: 12 numbers are NaN or infinite"),
    ],
)
def test_bytes_without_scales_that_fit(tmp_path: Path, scales: np.ndarray | None, message: str) -> None:
    write(tmp_path, encoded(fragments(4))[0], sentences(4))
    if scales is not None:
        np.save(tmp_path / "test_ims_scales.npy", scales)
    assert refusal(tmp_path) == message


def test_scales_beside_other_features(tmp_path: Path) -> None:
    in_bytes(tmp_path, fragments(4), 4)
    np.save(tmp_path / "test_ims.npy", fragments(4))
    assert refusal(tmp_path) == "/test_ims_scales.npy: scales go with int8, but the features are float32"


# The folder ----------------------------------------------------------------------------------------------------------


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        precomp.source(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no train_ims\.npy, dev_ims\.npy, test_ims\.npy or the like"):
        precomp.source(tmp_path)
    write(tmp_path, fragments(2), sentences(2))
    assert refusal(tmp_path, "dev") == "/dev_ims.npy: no such file"
    (tmp_path / "test_caps.txt").unlink()
    assert refusal(tmp_path) == "/test_caps.txt: no such file"
    with pytest.raises(DataError, match="no split val; there are train, dev, test"):
        precomp.load("val", tmp_path)


def test_source_reads_and_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", fragments(2), sentences(4))
    opened = precomp.source(folder)
    assert opened.name == "mine"
    assert opened.load("test").captions == tuple(sentences(4))
    (folder / "dataset.json").write_text(json.dumps({"name": "flickr8k", "grid": [6, 6]}))
    assert precomp.source(folder).name == "flickr8k"


@pytest.mark.parametrize(
    ("text", "message"), [("[]", "not a JSON object"), ("{", "not JSON"), ('{"name": 3}', "name is 3")]
)
def test_broken_description(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, fragments(2), sentences(2))
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=message):
        precomp.source(tmp_path)


def test_fingerprint_follows_the_data_and_not_the_names(tmp_path: Path) -> None:
    def print_of(features: np.ndarray, captions: list[str], ids: str | None = None) -> str:
        return precomp.source(write(tmp_path, features, captions, ids)).fingerprint

    first = print_of(fragments(4), sentences(4))
    assert print_of(fragments(4), sentences(4)) == first
    (tmp_path / "test_ims.npy").rename(tmp_path / "test_feat.npy")
    assert precomp.source(tmp_path).fingerprint == first
    (tmp_path / "test_feat.npy").unlink()
    others = [
        print_of(fragments(4, seed=1), sentences(4)),
        print_of(fragments(4).astype(np.float16), sentences(4)),
        print_of(fragments(4).reshape(4, DIM, REGIONS), sentences(4)),
        print_of(fragments(4), [*sentences(3), "another"]),
        print_of(fragments(4), sentences(4), "abcd"),
    ]
    assert len({first, *others}) == 1 + len(others)


def test_fingerprint_sees_every_byte(tmp_path: Path) -> None:
    features = fragments(100)
    first = precomp.source(write(tmp_path, features, sentences(100))).fingerprint
    features[1, 1, 1] += 1
    assert precomp.source(write(tmp_path, features, sentences(100))).fingerprint != first


# VSE++'s layout, and images that look alike in part ------------------------------------------------------------------


def test_one_vector_per_image(tmp_path: Path) -> None:
    features = fragments(3)[:, 0]  # (3, DIM)
    names = [f"{i}.jpg#{k}" for i in range(3) for k in range(2)]
    split = precomp.load("test", write(tmp_path, features.repeat(2, 0), sentences(6), names))
    assert split.images.ids == ("0.jpg", "1.jpg", "2.jpg")
    assert split.caption_to_image.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(split.images.take(slice(None)).features, features[:, None])
    assert isinstance(split.images.features, np.memmap)


def test_images_with_one_first_fragment_stay_apart(tmp_path: Path) -> None:
    features = fragments(4)
    features[:, 0] = 0  # a black border
    split = precomp.load("test", write(tmp_path, features.repeat(2, 0), sentences(8)))
    assert split.caption_to_image.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(precomp.load("test", write(tmp_path, features, sentences(8))).images) == 4


def test_a_folder_may_hold_test_alone(tmp_path: Path) -> None:
    opened = precomp.source(write(tmp_path, fragments(2), sentences(2)))
    assert len(opened.load("test").images) == 2


@pytest.mark.parametrize("name", ["..", "a\nb", "\x1b[31m", "a/b", "x" * 300, "\ud800"])
def test_names_that_cannot_name_a_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path, fragments(2), sentences(2))
    (tmp_path / "dataset.json").write_text(json.dumps({"name": name}))
    with pytest.raises(DataError, match=r"dataset\.json: name is"):
        precomp.source(tmp_path)


def said(folder: Path) -> str:
    """The refusal of the folder's test split; "" where it is read."""
    try:
        precomp.load("test", folder)
    except DataError as error:
        return str(error)
    return ""


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.one_of(
        st.binary(max_size=60),
        st.builds(
            lambda shape, kind: f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode(),
            st.lists(st.sampled_from([-1, 0, 2, 3, 2**40, 2**63, 10**30, True]), max_size=4).map(tuple),
            st.sampled_from(["<f4", "<f8", "|O", "<U3", "|V8", "<M8[s]", "nonsense"]),
        ),
        st.sampled_from([b"(" * 9000, b" " * 60_000, b"{'descr': " + b"-" * 5000]),
    )
)
def test_any_header_is_read_or_refused_in_a_line(tmp_path: Path, header: bytes) -> None:
    write(tmp_path, fragments(2), sentences(2))
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(96)
    (tmp_path / "test_ims.npy").write_bytes(data)
    assert len(said(tmp_path).splitlines()) <= 1


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("train_boxes", np.nan, r"train_boxes\.npy: 156 numbers are NaN or infinite"),
        ("train_img_sizes", np.inf, r"train_img_sizes\.npy: 26 numbers are NaN or infinite"),
        ("train_img_sizes", 0, r"train_img_sizes\.npy: from 0\.0, need widths and heights above 0"),
    ],
)
def test_places_that_cannot_be_are_refused_by_name(data_folder, name, value, says):
    path = data_folder / f"{name}.npy"
    np.save(path, np.full_like(np.load(path), value))
    with pytest.raises(DataError, match=says):
        precomp.load("train", data_folder)


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(data_folder):
    path = data_folder / "train_caps.txt"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match=r"train_caps\.txt: no file that can be read"):
        precomp.source(data_folder)


# Identities ----------------------------------------------------------------------------------------------------------


def named(folder: Path, *identities: str) -> Path:
    (folder / "test_identities.txt").write_text("".join(f"{name}\n" for name in identities), encoding="utf-8")
    return folder


def test_identities_go_with_the_images(tmp_path: Path) -> None:
    write(tmp_path, fragments(5), sentences(10), [str(i // 2) for i in range(10)])
    assert precomp.load("test", tmp_path).identities is None
    assert not precomp.source(tmp_path).identities
    split = precomp.load("test", named(tmp_path, "p1", "p0", "p1", "p2", "p0"))
    assert precomp.source(tmp_path).identities
    assert split.identities == ("p1", "p0", "p1", "p2", "p0")
    assert split.notes[-1] == "3 identities"
    numbers = split.identity_numbers()
    assert numbers is not None
    assert numbers.tolist() == [0, 1, 0, 2, 1]
    assert split.first(3).identities == ("p1", "p0", "p1")
    assert split.some(np.array([0, 1, 0, 1, 1], bool)).identities == ("p0", "p2", "p0")


@pytest.mark.parametrize(
    ("identities", "message"),
    [
        ("ab", ": 2 lines, need one for each of 3 images: line 3 is missing"),
        ("abcd", ": 4 lines, need one for each of 3 images: line 4 has no image"),
        (["a", "", "c"], ": 1 empty lines: 2"),
        ([], ": the file is empty"),
    ],
)
def test_identities_that_do_not_fit_are_refused(tmp_path: Path, identities: Sequence[str], message: str) -> None:
    write(tmp_path, fragments(3), sentences(6))
    assert refusal(named(tmp_path, *identities)) == f"/test_identities.txt{message}"


def test_the_fingerprint_follows_identities_and_without_them_stays(tmp_path: Path) -> None:
    (tmp_path / "test_caps.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "test_ids.txt").write_text("a\na\nb\n")
    plain = precomp.source(tmp_path).fingerprint
    assert plain == "d511600715d88331770573d5155f36fcab43b5fb870c1d2086c9ad05426a992a"
    known = precomp.source(named(tmp_path, "p", "p")).fingerprint
    assert len({plain, known, precomp.source(named(tmp_path, "p", "q")).fingerprint}) == 3
