"""The one shape of all data refuses what cannot be, and reads no more than it is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.data.split import DataError, Images, Split

REGIONS, DIM = 3, 5


def images(count: int = 4, **changes) -> Images:
    features = np.arange(1, count * REGIONS * DIM + 1, dtype=np.float32).reshape(count, REGIONS, DIM)
    return replace(Images(features, np.arange(count), tuple(f"i{n}" for n in range(count))), **changes)


def split(caption_to_image=(0, 0, 1, 2, 3, 3), **changes) -> Split:
    captions = tuple(f"caption {n}" for n in range(len(caption_to_image)))
    return Split(**{"images": images(), "captions": captions, "caption_to_image": np.array(caption_to_image)} | changes)


# Images --------------------------------------------------------------------------------------------------------------


def test_rows_say_where_an_image_lies():
    stored = images(4, rows=np.array([3, 1]), ids=("x", "y"))
    assert len(stored) == 2
    np.testing.assert_array_equal(stored.take(np.array([1, 0])).features, stored.features[[1, 3]])
    np.testing.assert_array_equal(stored.take(slice(0, 1)).features, stored.features[[3]])


def test_padding_is_zero_whatever_the_store_holds():
    found = images(counts=np.array([3, 1, 2, 3])).take(slice(0, 3))
    assert found.mask.tolist() == [[True, True, True], [True, False, False], [True, True, False]]
    assert not found.features[~found.mask].any()
    assert found.features[found.mask].all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_batches_are_single_precision_copies(dtype):
    stored = images()
    stored = replace(
        stored, features=stored.features.astype(dtype), boxes=np.ones((4, REGIONS, 4)), sizes=np.ones((4, 2), int)
    )
    found = stored.take(slice(0, 2))
    assert {a.dtype for a in (found.features, found.boxes, found.sizes) if a is not None} == {np.dtype(np.float32)}
    found.features[:] = 0
    assert stored.features.all()


def test_without_boxes_there_are_none():
    found = images().take(slice(0, 2))
    assert found.boxes is None
    assert found.sizes is None


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_features_that_are_no_numbers_name_their_row(wrong):
    stored = images(rows=np.array([0, 1, 3, 2]))
    stored.features[2, 1, :2] = wrong
    stored.take(slice(0, 3))  # not looked at
    with pytest.raises(DataError, match=r"^2 features are NaN or infinite in this batch, first in feature row 2$"):
        stored.take(slice(0, 4))


def test_features_whose_sum_overflows_are_fine():
    stored = images()
    stored.features[:] = 3e38
    with np.errstate(over="ignore"):
        assert np.isfinite(stored.take(slice(0, 4)).features).all()


# Splits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"captions": ("one",)}, r"^1 captions but 6 image indices$"),
        ({"images": images(ids=("a", "b", "a", "c"))}, r"^image ids are not unique$"),
        ({"caption_to_image": np.array([0, 0, 1, 2, 3, 4])}, r"^a caption names image 4, there are only 4$"),
        ({"caption_to_image": np.array([0, 0, 2, 2, 3, 3])}, r"^1 images have no caption, first i1$"),
    ],
)
def test_contradictions_are_refused(changes, says):
    with pytest.raises(DataError, match=says):
        split(**changes)


def test_the_first_images_bring_all_their_captions():
    groups = {"some": np.array([True, False, True, False, True, False])}
    found = split(groups=groups, notes=("kept",)).first(2)
    assert found.images.ids == ("i0", "i1")
    assert found.captions == ("caption 0", "caption 1", "caption 2")
    assert found.caption_to_image.tolist() == [0, 0, 1]
    assert found.groups["some"].tolist() == [True, False, True]
    assert found.notes == ("kept",)


def test_some_images_bring_all_their_captions():
    groups = {"some": np.array([True, False, True, False, True, False])}
    found = split(groups=groups, notes=("kept",)).some(np.array([True, False, False, True]))
    assert found.images.ids == ("i0", "i3")
    assert found.captions == ("caption 0", "caption 1", "caption 4", "caption 5")
    assert found.caption_to_image.tolist() == [0, 0, 1, 1]
    assert found.groups["some"].tolist() == [True, False, True, False]
    np.testing.assert_array_equal(found.images.take(slice(0, 2)).features, images().features[[0, 3]])


@pytest.mark.parametrize("count", [0, 4, 5])
def test_none_or_more_than_there_are_means_all(count):
    whole = split()
    assert whole.first(count) is whole


def test_zero_rows_at_the_end_are_padding_and_an_image_of_zeros_keeps_one() -> None:
    features = np.ones((3, 4, 2), np.float32)
    features[0, 2:] = features[1] = features[2, 1] = 0
    mask = Images(features, np.arange(3), tuple("abc")).take(slice(None)).mask
    assert mask.sum(1).tolist() == [2, 1, 4]  # a zero row between others stays where it is


def test_float64_beyond_float32_is_told_apart_from_nan() -> None:
    features = np.ones((2, 3, 2))
    features[1, 0, 0] = 1e300
    with pytest.raises(DataError, match="1 features are beyond float32 in this batch, first in feature row 1"):
        Images(features, np.arange(2), tuple("ab")).take(slice(None))
