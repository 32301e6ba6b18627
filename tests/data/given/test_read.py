"""Rows from files put in the order of the data, and everything that must be refused in one line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness import evaluate
from harness.data.given import files
from harness.data.given.places import Truth, owners
from harness.data.given.read import read
from harness.data.split import DataError
from harness.spec.given import parsed

OWNERS = np.array([0, 0, 1, 1, 2, 2])  # 3 images, 2 captions each
TRUTH = Truth(OWNERS, 3, ("i0", "i1", "i2"), tuple(f"i{owner}#{place % 2}" for place, owner in enumerate(OWNERS)))
RNG = np.random.default_rng(0)
IMAGES, CAPTIONS = RNG.standard_normal((3, 5)).astype(np.float32), RNG.standard_normal((6, 5)).astype(np.float32)
SCORES = IMAGES @ CAPTIONS.T
BOTH = {"images": IMAGES, "captions": CAPTIONS}
REPEATED = {"images": np.repeat(IMAGES, 2, 0), "captions": CAPTIONS}


def row(options: str = "", truth: Truth = TRUTH, **arrays):
    """As a `.npz` would give it."""
    request = parsed(f"mine=a.npz{options}")
    kind = files._kind(Path("a.npz"), arrays, request.options.get("kind", ""))
    return read("mine", kind, {name: np.asarray(array) for name, array in arrays.items()}, request.options, truth)


def test_rows_with_ids_come_in_any_order():
    images, captions = [2, 0, 1], [5, 3, 1, 0, 2, 4]
    found = row(
        images=IMAGES[images],
        captions=CAPTIONS[captions],
        image_ids=np.array(TRUTH.image_ids)[images],
        caption_ids=np.array(TRUTH.caption_ids)[captions],
        image_of_caption=np.array(TRUTH.image_ids)[OWNERS[captions]],
    )
    assert (found.images.take(slice(None))[0] == IMAGES).all()
    assert (found.captions.take(slice(None))[0] == CAPTIONS).all()
    turned = row(
        scores=SCORES[images][:, captions].T,
        image_ids=np.array(TRUTH.image_ids)[images],
        caption_ids=np.array(TRUTH.caption_ids)[captions],
    )
    assert (turned.i2t == SCORES).all()
    assert turned.notes == ("mine: scores: read as captions by images, the one reading that fits (6, 3)",)


def test_images_that_are_there_once_per_caption_are_folded_with_a_line():
    found = row(images=np.repeat(IMAGES, 2, 0), captions=CAPTIONS)
    assert (found.images.take(slice(None))[0] == IMAGES).all()
    assert found.notes == ("mine: images: images repeat once per caption, 6 rows folded to 3 images",)
    square = row(scores=np.repeat(SCORES, 2, 0))
    assert (square.i2t == SCORES).all()
    assert len(square.notes) == 1
    turned = row(scores=np.repeat(SCORES, 2, 0).T, scores_t2i=SCORES)
    assert (turned.i2t == SCORES).all()
    assert (turned.t2i == SCORES).all()


def test_images_that_are_there_once_per_caption_are_found_by_their_ids():
    owners, turned = np.array([0, 1, 1, 1, 2, 2]), [2, 0, 1]  # rows 0, 1 show the last image, row 2 the first
    truth = Truth(owners, 3, TRUTH.image_ids)
    shown, ids = [2, 2, 0, 1, 1, 1], np.array(TRUTH.image_ids)[turned]
    found = row(images=IMAGES[shown], captions=CAPTIONS, image_ids=ids, truth=truth)
    assert (found.images.take(slice(None))[0] == IMAGES).all()
    assert (row(scores=SCORES[shown], image_ids=ids, truth=truth).i2t == SCORES).all()
    with pytest.raises(DataError, match=r"^mine: images: 6 image rows [^\n]*row 2 is not that of its image again$"):
        row(images=IMAGES[shown], captions=CAPTIONS, image_ids=np.array(TRUTH.image_ids), truth=truth)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_width_of_number_is_read_in_single_precision(dtype):
    found, _ = row(images=IMAGES.astype(dtype), captions=CAPTIONS.astype(dtype)).images.take(slice(0, 2))
    assert found.dtype == np.float32
    assert found == pytest.approx(IMAGES[:2], abs=2e-3)


def test_int8_is_multiplied_by_its_scale():
    whole = np.arange(1, 16, dtype=np.int8).reshape(3, 5)
    captions = np.repeat(np.arange(1, 7, dtype=np.int8)[:, None], 5, axis=1)
    scale = np.array([1.0, 0.5, 0.25])
    found = row(images=whole, image_scale=scale, captions=captions, caption_scale=0.1)
    assert (found.images.take(slice(None))[0] == whole * scale[:, None]).all()
    assert found.captions.take(slice(5, 6))[0] == pytest.approx(0.6)


def test_padding_is_zero_whatever_is_stored_there():
    several = RNG.standard_normal((6, 2, 5))
    mask = np.array([[True, False]] * 6)
    found = row(",scorer=max-sum", images=RNG.standard_normal((3, 4, 5)), captions=several, caption_mask=mask)
    vectors, real = found.captions.take(slice(None))
    assert (vectors[:, 1] == 0).all()
    assert (real == mask).all()


LISTS = {"i2t_ids": [[2, 0, 1, 3, 4, 5], [1, 2, 3, 0, 4, 5], [5, 4, 0, 1, 2, 3]], "t2i_ids": [[0, 1, 2]] * 6}


def changed(array, place, value):
    array = np.array(array, copy=True)
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("arrays", "options", "says"),
    [
        ({"images": IMAGES, "captions": CAPTIONS[:5]}, "", "5 captions, the data have 6"),
        (
            {"images": IMAGES, "captions": np.concatenate([CAPTIONS, CAPTIONS])},
            "",
            "6 too many: keep those of the data",
        ),
        ({"images": IMAGES[:2], "captions": CAPTIONS}, "", "2 image rows, the data have 3 images"),
        ({"images": CAPTIONS, "captions": IMAGES}, "", "exchanged?"),
        ({"images": CAPTIONS, "captions": CAPTIONS}, "", "row 1 is not that of its image again"),
        ({"images": IMAGES[:, :4], "captions": CAPTIONS}, "", "widths must be equal"),
        ({"images": changed(IMAGES, (1, 2), np.nan), "captions": CAPTIONS}, "", "images are NaN or infinite in rows 1"),
        (
            {"images": changed(IMAGES, 2, 0), "captions": CAPTIONS},
            ",scorer=cosine",
            "image vectors are all zero in rows 2",
        ),
        ({"images": IMAGES, "captions": np.ones((6, 5))}, "", "all 6 captions have the same vectors"),
        ({"images": IMAGES.astype(int), "captions": CAPTIONS}, "", "images are int64, need float16"),
        ({"images": IMAGES.astype(np.int8), "captions": CAPTIONS}, "", "image_scale goes with int8"),
        (BOTH, ",scorer=max-sum", "scorer max-sum does not fit these shapes"),
        (
            {"images": IMAGES[:, None], "captions": CAPTIONS},
            "",
            "several vectors an item need scorer=max or max-cosine",
        ),
        (
            {**BOTH, "image_ids": ["i0", "i1", "i1"]},
            "",
            "1 ids are there twice, first 'i1'",
        ),
        (
            {**BOTH, "image_ids": ["i0", "i1", "x"]},
            "",
            "1 are unknown to the data, first 'x'",
        ),
        (
            {**BOTH, "image_of_caption": [0, 1, 1, 1, 2, 2]},
            "",
            "contradicts the data for 1 of 6",
        ),
        ({"scores": SCORES[:, :5]}, "", "shape (3, 5), the data 3 images and 6 captions"),
        ({"scores": SCORES}, ",axes=captions-images", "shape (3, 6), the data 3 images and 6 captions"),
        ({"scores": changed(SCORES, (0, 1), np.inf)}, "", "1 of 18 scores of images 0 to 3 are not finite"),
        ({"scores": changed(SCORES, 1, 4.0)}, "", "all scores of an image are equal in rows 1"),
        ({"scores": changed(SCORES, (slice(None), 4), 4.0)}, "", "all scores of a caption are equal in rows 4"),
        ({"scores": SCORES.astype(str)}, "", "must be numbers"),
        ({**LISTS, "t2i_ids": [[0, 1, 3]] * 6}, "", "must be -1 to 2, got 0 to 3"),
        ({**LISTS, "t2i_ids": [[0, 1, 1]] * 6}, "", "names an item twice"),
        ({**LISTS, "t2i_ids": [[0, 1, 2, 0]] * 6}, "", "lists 4 items a query, need 3 to 3"),
        ({**LISTS, "t2i_ids": [[0, 1]] * 6}, "", "lists 2 items a query, need 3 to 3"),
        (
            {**LISTS, "i2t_ids": [["i0#0", "x", "y", "i1#0", "i1#1", "i2#0"]] * 3},
            "",
            "2 ids are unknown to the data, first 'x'",
        ),
        ({**LISTS, "t2i_scores": [[1, 2, 3]] * 6}, "", "rise along a list, which is best first, are these distances?"),
        (
            {**REPEATED, "image_ids": 0},
            "",
            "image_ids must be texts or whole numbers, one a row, got int64 of shape ()",
        ),
        ({**REPEATED, "image_ids": ["i0", "i1"]}, "", "1 of the data are missing, first 'i2'"),
        ({**REPEATED, "image_ids": ["i0", "i1", "i1"]}, "", "1 ids are there twice, first 'i1'"),
        ({**LISTS, "i2t_scores": SCORES[:2]}, "", "shape of i2t_ids, (3, 6), got float32 of shape (2, 6)"),
        ({**LISTS, "i2t_scores": np.ones((4, 6))}, "", "shape of i2t_ids, (3, 6), got float64 of shape (4, 6)"),
        ({**LISTS, "t2i_scores": np.ones((6, 2))}, "", "shape of t2i_ids, (6, 3), got float64 of shape (6, 2)"),
        ({**LISTS, "t2i_scores": 1.0}, "", "shape of t2i_ids, (6, 3), got float64 of shape ()"),
        ({**LISTS, "i2t_scores": SCORES.astype(str)}, "", "mine: i2t_scores must be numbers"),
        ({**LISTS, "i2t_ids": np.empty((0, 6), int)}, "", "(queries, k), got int64 of shape (0, 6)"),
        ({**LISTS, "i2t_ids": np.empty((3, 0), int)}, "", "(queries, k), got int64 of shape (3, 0)"),
        ({**LISTS, "i2t_ids": 1}, "", "(queries, k), got int64 of shape ()"),
        ({**LISTS, "t2i_ids": [0, 1, 2, 0, 1, 2]}, "", "mine: t2i_ids must be ids or numbers of (queries, k)"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arrays, options, says):
    with pytest.raises(DataError) as refusal:
        row(options, **arrays)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_square_that_reads_both_ways_is_refused_naming_both():
    one_to_one = Truth(np.arange(3), 3)
    with pytest.raises(DataError, match="say axes=images-captions or captions-images"):
        row(scores=SCORES[:, :3], truth=one_to_one)
    assert (row(",axes=captions-images", scores=SCORES[:, :3], truth=one_to_one).i2t == SCORES[:, :3].T).all()


@pytest.mark.parametrize(
    "told",
    [None, 2, [2, 2, 2], OWNERS, {0: 0, 1: 0, 2: 1, 3: 1, 4: 2, 5: 2}, {0: [0, 1], 1: [2, 3], 2: [4, 5]}],
)
def test_whose_captions_they_are_may_be_told_in_many_ways(told):
    assert (owners(told, 3, 6, "mine") == OWNERS).all()


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (3, "3 captions an image are 9 of 3 images, not 6"),
        ({0: 0, 1: [1]}, "not both"),
        ({0: 0}, "5 of 6 captions have no image, first 1"),
        ({0: [0, 1], 1: [2, 3], 2: [4, 4]}, "caption 4 is there twice"),
        ({"a": 0}, "must map numbers to numbers"),
    ],
)
def test_what_tells_nothing_is_refused(told, says):
    with pytest.raises(DataError, match=says):
        owners(told, 3, 6, "mine")


# Files ---------------------------------------------------------------------------------------------------------------


def opened(text: str, room: float = float("inf")):
    return files.opened(parsed(text), room)


def test_all_formats_give_the_same_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, captions=CAPTIONS, image_ids=np.array(TRUTH.image_ids))
    save_file(
        {"images": IMAGES, "captions": CAPTIONS}, tmp_path / "a.safetensors", {"image_ids": json.dumps(TRUTH.image_ids)}
    )
    np.save(tmp_path / "i.npy", IMAGES)
    np.save(tmp_path / "c.npy", CAPTIONS)
    (tmp_path / "ids.json").write_text(json.dumps({"image_ids": TRUTH.image_ids}))
    for text in ("a.npz", "a.safetensors", f"i.npy,{tmp_path}/c.npy,ids={tmp_path}/ids.json"):
        kind, arrays = opened(f"mine={tmp_path}/{text}")
        assert kind == "embeddings"
        assert (arrays["captions"] == CAPTIONS).all()
        assert arrays["image_ids"].tolist() == list(TRUTH.image_ids)


def test_one_matrix_is_scores_and_two_may_be_one_for_each_direction(tmp_path):
    np.save(tmp_path / "s.npy", SCORES)
    np.save(tmp_path / "t.npy", SCORES.T)
    np.save(tmp_path / "square.npy", SCORES[:, :3])
    assert opened(f"mine={tmp_path}/s.npy")[0] == "scores"
    assert set(opened(f"mine={tmp_path}/s.npy,{tmp_path}/t.npy")[1]) == {"scores", "scores_t2i"}
    with pytest.raises(DataError, match="say kind=embeddings or kind=scores"):
        opened(f"mine={tmp_path}/square.npy,{tmp_path}/square.npy")
    assert isinstance(opened(f"mine={tmp_path}/s.npy")[1]["scores"], np.memmap)


def test_files_that_cannot_be_read_are_refused_in_one_line(tmp_path):
    np.savez(tmp_path / "none.npz")
    np.savez(tmp_path / "names.npz", img=IMAGES, cap=CAPTIONS)
    np.savez(tmp_path / "half.npz", images=IMAGES, **{"a\nb": CAPTIONS})
    np.savez(tmp_path / "many.npz", **{f"a{n:02}": IMAGES for n in range(12)})
    save_file({"img": IMAGES}, tmp_path / "names.safetensors", {"image_ids": "[1]"})
    np.savez(tmp_path / "both.npz", images=IMAGES, captions=CAPTIONS, scores=SCORES)
    np.savez(tmp_path / "objects.npz", images=np.array([{}], object), captions=CAPTIONS)
    np.savez(tmp_path / "large.npz", images=IMAGES, captions=CAPTIONS)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "large.npz").read_bytes()[:200])
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(IMAGES))
    for name, says in {
        "none.npz": "none.npz: holds nothing, need arrays named as in embeddings: images, captions",
        "names.npz": "names.npz: holds 'cap', 'img', need arrays named as in embeddings: images, captions",
        "half.npz": r"half.npz: holds 'a\nb', images, need arrays named as",
        "many.npz": "'a08', 'a09', ..., need arrays named as",
        "names.safetensors": "holds image_ids, 'img', need arrays named as",
        "both.npz": "say kind=embeddings",
        "objects.npz": "holds Python objects (a pickle), which are not read",
        "cut.npz": "truncated, or no .npz",
        "x.safetensors": "cannot be read",
        "p.pkl": "need .npz, .npy, .safetensors (never a pickle)",
        "gone.npz": "no such file",
    }.items():
        with pytest.raises(DataError) as refusal:
            opened(f"mine={tmp_path}/{name}")
        assert says in str(refusal.value)
        assert "\n" not in str(refusal.value)
    with pytest.raises(DataError, match=r"may be taken; as \.npy it is read through a memory map"):
        opened(f"mine={tmp_path}/large.npz", room=100)
    np.save(tmp_path / "s.npy", SCORES)
    with pytest.raises(DataError, match="a scorer is for embeddings"):
        opened(f"mine={tmp_path}/s.npy,scorer=dot")


def test_a_matrix_that_must_be_copied_needs_room():
    def read_in(room: float, scores: np.ndarray, **more: np.ndarray):
        return read("mine", "scores", {"scores": scores, **more}, {}, TRUTH, room)

    room = SCORES.size * 4 - 1
    turned = np.array(TRUTH.image_ids[::-1])
    assert read_in(room, SCORES.astype(np.float32)).i2t.shape == SCORES.shape  # as it lies
    for scores, more in ((SCORES.astype(np.float16), {}), (SCORES.astype(np.float32), {"image_ids": turned})):
        with pytest.raises(DataError, match=r"may be taken; as \.npy of float32 in the order of the data"):
            read_in(room, scores, **more)
        read_in(room + 1, scores, **more)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("images_ids", "image_ids"),
        ("Image_IDs", "image_ids"),
        ("caption_id", "caption_ids"),
        ("image_of_captions", "image_of_caption"),
        ("image_masks", "image_mask"),
    ],
)
def test_a_misspelt_name_is_refused(tmp_path, misspelt, meant):
    ids = np.arange(3)
    np.savez(tmp_path / "a.npz", **BOTH, **{misspelt: ids})
    save_file({**BOTH, misspelt: ids}, tmp_path / "a.safetensors")
    save_file(BOTH, tmp_path / "told.safetensors", {misspelt: "[0, 1, 2]"})
    np.savez(tmp_path / "plain.npz", **BOTH)
    (tmp_path / "ids.json").write_text(json.dumps({"image_of_caption": [0, 1, 2], "image_ids": [0], misspelt: [0]}))
    rows = {"a.npz": "a.npz", "a.safetensors": "a.safetensors", "told.safetensors": "told.safetensors"}
    if meant == "caption_ids":
        rows["ids.json"] = f"plain.npz,ids={tmp_path}/ids.json"
    for name, text in rows.items():
        with pytest.raises(DataError) as refusal:
            opened(f"mine={tmp_path}/{text}")
        assert str(refusal.value) == f"{tmp_path}/{name}: '{misspelt}', did you mean {meant}?"


def test_other_names_are_ignored_and_told(tmp_path):
    more = {"epoch": np.arange(1), "image_names": np.arange(3)}
    np.savez(tmp_path / "a.npz", **BOTH, **more)
    save_file({**BOTH, **more}, tmp_path / "a.safetensors", {"format": "pt"})
    (tmp_path / "ids.json").write_text(json.dumps({"image_ids": [0, 1, 2], "images_ids": [0, 1, 2]}))
    for name in ("a.npz", "a.safetensors"):
        request = parsed(f"mine={tmp_path}/{name},ids={tmp_path}/ids.json")
        assert set(files.opened(request)[1]) == {"images", "captions", "image_ids"}
        assert files.ignored(request) == (
            f"mine: {name}: ignored 'epoch', 'image_names'",
            "mine: ids.json: ignored 'images_ids'",
        )
    found = evaluate(tmp_path / "a.npz")
    assert found.notes == ("a: a.npz: ignored 'epoch', 'image_names'",)
