"""Fixed dimensional encodings: equal to a plain loop, near the Chamfer similarity where the paper says so."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.measure.fde import Encoding


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def chamfer(words: np.ndarray, regions: np.ndarray) -> float:
    return sum(max(float(word @ region) for region in regions) for word in words)


def slow_cell(fragment: np.ndarray, normals: np.ndarray) -> int:
    return sum(2**bit for bit, normal in enumerate(normals.T) if float(fragment @ normal) > 0)


def slow_caption(encoding: Encoding, words: np.ndarray) -> list[float]:
    numbers: list[float] = []
    for normals, signs in zip(*encoding._drawn, strict=True):
        for cell in range(2**encoding.planes):
            inside = [word for word in words if slow_cell(word, normals) == cell]
            numbers += list(sum(inside, np.zeros(encoding.dim)) @ signs / encoding.repetitions)
    return numbers


def slow_image(encoding: Encoding, regions: np.ndarray) -> list[float]:
    numbers: list[float] = []
    for normals, signs in zip(*encoding._drawn, strict=True):
        for cell in range(2**encoding.planes):
            apart = [(slow_cell(region, normals) ^ cell).bit_count() for region in regions]
            nearest = [region for region, bits in zip(regions, apart, strict=True) if bits == min(apart)]
            numbers += list(np.mean(nearest, 0) @ signs)
    return numbers


@given(st.integers(0, 3), st.integers(0, 5), st.integers(1, 3), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_encodings_are_those_of_a_plain_loop(planes, width, repetitions, seed):
    encoding = Encoding(7, planes, width, repetitions, seed)
    words, regions = unit(5, 7, seed=seed), unit(3, 11, 7, seed=seed + 1)
    mask = np.arange(11) < np.array([[11], [1], [4]])
    regions[~mask] = 1e6  # rubbish
    found = encoding.images(regions, mask)
    assert found.shape == (3, len(encoding))
    np.testing.assert_allclose(encoding.caption(words), slow_caption(encoding, words), rtol=1e-4, atol=1e-5)
    for image, own, real in zip(found, regions, mask, strict=True):
        np.testing.assert_allclose(image, slow_image(encoding, own[real]), rtol=1e-4, atol=1e-5)


def test_by_hand_one_region_or_none_of_its_cells_shared():
    words = unit(5, 7)
    one = unit(2, 1, 7, seed=1)  # the only region is the best of every word, whatever its cell
    encoding = Encoding(7, planes=3, width=0, repetitions=2)
    found = encoding.images(one, np.ones((2, 1), bool)) @ encoding.caption(words)
    np.testing.assert_allclose(found, [chamfer(words, regions) for regions in one], rtol=1e-5)
    whole = Encoding(7, planes=0, width=0, repetitions=1)  # a single cell: sum of words with mean of regions
    regions = unit(1, 3, 7, seed=2)
    found = whole.images(regions, np.ones((1, 3), bool)) @ whole.caption(words)
    np.testing.assert_allclose(found, words.sum(0) @ regions[0].mean(0), rtol=1e-5)


def test_it_is_near_the_chamfer_similarity_where_words_are_among_the_regions():
    words, others = unit(5, 64), unit(20, 8, 64, seed=1)
    holding = np.concatenate([np.broadcast_to(words, (20, 5, 64)), others], 1)  # every word is its own best region
    encoding = Encoding(64, planes=7, width=0, repetitions=20)
    mask = np.ones((20, 13), bool)
    found = encoding.images(holding, mask) @ encoding.caption(words)
    assert [chamfer(words, regions) for regions in holding] == pytest.approx([5.0] * 20)
    np.testing.assert_allclose(found, 5.0, rtol=0.1)
    strangers = encoding.images(others, mask[:, :8]) @ encoding.caption(words)
    assert strangers.max() < found.min() / 2


def test_more_repetitions_of_signs_come_nearer():
    words, regions = unit(5, 64), unit(200, 8, 64, seed=1)
    mask = np.ones((200, 8), bool)

    def off(width: int, repetitions: int) -> float:
        whole, drawn = (Encoding(64, 0, of, repetitions) for of in (0, width))
        exact = whole.images(regions, mask) @ whole.caption(words)
        return float(np.abs(drawn.images(regions, mask) @ drawn.caption(words) - exact).mean())

    assert off(8, 64) < off(8, 4) / 2


def test_draws_follow_the_seed():
    words = unit(5, 7)
    same = [Encoding(7, seed=3).caption(words) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert not np.array_equal(same[0], Encoding(7, seed=4).caption(words))


@pytest.mark.parametrize("wrong", [{"planes": -1}, {"planes": 9}, {"width": -1}, {"repetitions": 0}, {"dim": 0}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        Encoding(**{"dim": 7, **wrong})


def test_shapes_that_do_not_fit_are_refused():
    encoding = Encoding(7)
    for words in (unit(5, 8), unit(7), unit(2, 5, 7), unit(0, 7)):
        with pytest.raises(ValueError, match="fragments of width 7 on 2 axes"):
            encoding.caption(words)
    regions = unit(2, 3, 7)
    for mask in (np.ones((2, 4), bool), np.zeros((2, 3), bool)):
        with pytest.raises(ValueError, match="must name a region of every image"):
            encoding.images(regions, mask)
    assert [len(Encoding(7, *numbers)) for numbers in product((0, 2), (0, 3), (5,))] == [35, 15, 140, 60]
