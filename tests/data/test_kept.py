"""What was computed once is found again by its content, and damage is never believed."""

from __future__ import annotations

import numpy as np
import pytest

from harness.data.kept import Shelf, digest

WIDTH = 3
ITEMS = [digest(word.encode()) for word in ("ant", "bee", "cat")]


def made(places, rows=(1, 2, 5)):
    return [np.full((rows[place], WIDTH), place, np.float32) for place in places]


def test_an_item_is_computed_once_whoever_asks_and_however_often(tmp_path):
    shelf = Shelf(tmp_path / "shelf", WIDTH)
    found = shelf.of([*ITEMS, ITEMS[1]], made)
    assert [len(array) for array in found] == [1, 2, 5, 2]
    assert shelf.computed == 3
    again = Shelf(tmp_path / "shelf", WIDTH)
    for asked in (ITEMS, ITEMS[::-1], [ITEMS[1]]):
        for content, array in zip(asked, again.of(asked, lambda _: pytest.fail("computed again")), strict=True):
            np.testing.assert_array_equal(array, made([ITEMS.index(content)])[0])
    assert again.computed == 0


def test_what_another_process_added_meanwhile_is_found(tmp_path):
    one, other = Shelf(tmp_path, WIDTH), Shelf(tmp_path, WIDTH)
    one.of(ITEMS[:1], made)
    other.of(ITEMS[:2], made)
    assert (one.computed, other.computed) == (1, 1)
    one.of(ITEMS[:2], lambda _: pytest.fail("computed again"))


@pytest.mark.parametrize("lost", [1, 4 * WIDTH, 4 * WIDTH * 5])
def test_values_that_were_cut_are_computed_again(tmp_path, lost):
    Shelf(tmp_path, WIDTH).of(ITEMS, made)
    values = tmp_path / "values"
    values.write_bytes(values.read_bytes()[:-lost])
    again = Shelf(tmp_path, WIDTH)
    np.testing.assert_array_equal(again.of(ITEMS, made)[2], made([2])[0])
    assert again.computed == 1
    np.testing.assert_array_equal(Shelf(tmp_path, WIDTH).of(ITEMS, made)[0], made([0])[0])


def test_an_index_that_was_cut_is_gone_on_with(tmp_path):
    Shelf(tmp_path, WIDTH).of(ITEMS[:2], made)
    index = tmp_path / "index"
    index.write_bytes(index.read_bytes()[:-5])
    for _ in "ab":
        again = Shelf(tmp_path, WIDTH)
        np.testing.assert_array_equal(again.of(ITEMS, made)[1], made([1])[0])
    assert again.computed == 0


def test_values_that_are_others_are_not_believed(tmp_path):
    Shelf(tmp_path, WIDTH).of(ITEMS, made)
    values = tmp_path / "values"
    content = bytearray(values.read_bytes())
    content[4 * WIDTH] ^= 1  # in the first row of the second item
    values.write_bytes(content)
    again = Shelf(tmp_path, WIDTH)
    np.testing.assert_array_equal(again.of(ITEMS, made)[1], made([1])[0])
    assert again.computed == 1


def test_a_shelf_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("no folder")
    shelf = Shelf(tmp_path / "file", WIDTH)
    for _ in "ab":
        np.testing.assert_array_equal(shelf.of(ITEMS, made)[2], made([2])[0])
    assert shelf.computed == 6
