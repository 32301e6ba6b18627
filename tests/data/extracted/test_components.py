"""Are the components those of a singular value decomposition of all real fragments at once?"""

from pathlib import Path

import numpy as np
import pytest

from harness.data.extracted import components
from harness.data.split import DataError


def fragments(images: int = 23, regions: int = 5, width: int = 7) -> np.ndarray:
    """(images, regions, width) float16, of very different variances; some images end in padding."""
    noise = np.random.default_rng(0).standard_normal((images, regions, width)) * 2.0 ** -np.arange(width) + 3
    noise[::4, 3:] = 0
    return noise.astype(np.float16)


def slow(features: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, directions up to their sign, and variances, from everything at once."""
    rows = np.array([row for image in features for row in image.astype(np.float64) if row.any()])
    mean = rows.mean(0)
    _, singular, directions = np.linalg.svd(rows - mean, full_matrices=False)
    return mean, directions[:number], (singular**2 / (len(rows) - 1))[:number]


@pytest.mark.parametrize("number", [1, 3, 7])
@pytest.mark.parametrize("block", [1, 15, 8192])
def test_components_are_those_of_a_singular_value_decomposition(
    number: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(components, "BLOCK", block)
    features = fragments()
    found = components.fit(features, number)
    mean, directions, variance = slow(features, number)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(np.abs((found.directions * directions).sum(1)), 1, rtol=1e-9)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-9)
    assert int(found.fragments) == 23 * 5 - 6 * 2
    expected = (features.astype(np.float64) - mean) @ directions.T
    projected = found.project(features)
    real = features.any(-1)
    np.testing.assert_allclose(np.abs(projected[real]), np.abs(expected[real]), atol=1e-5)
    assert projected.dtype == np.float32


def test_all_components_keep_every_distance() -> None:
    features = fragments()[1:4]
    projected = components.fit(fragments(), 7).project(features)
    apart, before = (x[0, 0].astype(np.float64) - x[2, 4] for x in (projected, features))
    assert np.linalg.norm(apart) == pytest.approx(np.linalg.norm(before), rel=1e-6)


def test_explained_variance_by_hand() -> None:
    """Four corners of a rectangle of 6 by 2: squares of 9 and 1 from the centre, 90% and 10%."""
    corners = np.array([[[4, 5], [10, 5], [4, 7], [10, 7]]], np.float16)
    found = components.fit(corners, 2)
    assert found.mean.tolist() == [7, 6]
    np.testing.assert_allclose(found.variance, [12, 4 / 3])  # 4 * 9 / 3 and 4 * 1 / 3
    np.testing.assert_allclose(found.explained, [0.9, 0.1])
    np.testing.assert_allclose(found.directions, np.eye(2), atol=1e-12)  # and not their negatives
    np.testing.assert_allclose(found.project(corners[0, :1]), [[-3, -1]], atol=1e-6)
    np.testing.assert_allclose(components.fit(corners, 1).explained, [0.9])


def test_the_largest_entry_of_a_direction_is_positive() -> None:
    downwards = np.array([[[0, 0], [1, -2]]], np.float16)
    downwards[0, 0] = [2, -4]
    np.testing.assert_allclose(components.fit(downwards, 1).directions, np.array([[-1, 2]]) / np.sqrt(5))


def test_rows_of_zeros_stay_and_do_not_enter_the_fit() -> None:
    padded = fragments()
    more = np.concatenate([padded, np.zeros((23, 4, 7), np.float16)], axis=1)
    one, other = components.fit(padded, 3), components.fit(more, 3)
    np.testing.assert_allclose(other.mean, one.mean, rtol=1e-12)
    assert other.fragments == one.fragments
    projected = one.project(more)
    assert not projected[:, 5:].any()
    np.testing.assert_array_equal(projected.any(-1), more.any(-1))


def test_of_many_images_the_same_are_drawn() -> None:
    features = fragments(images=40)
    one, other = (components.fit(features, 2, most=53) for _ in range(2))
    assert one.digest == other.digest
    assert 10 * 3 <= one.fragments <= 10 * 5  # 53 // 5 images
    assert one.digest != components.fit(features, 2, most=200).digest
    assert components.fit(features, 2, most=200).digest == components.fit(features, 2).digest


@pytest.mark.parametrize(
    ("shape", "number", "message"),
    [
        ((9, 2, 7), 8, "--reduce 8 is more than the 7 dimensions of the features"),
        ((3, 2, 7), 6, "--reduce 6 needs more training fragments than components, there are 6"),
    ],
)
def test_more_components_than_there_can_be(shape: tuple[int, ...], number: int, message: str) -> None:
    features = np.random.default_rng(0).standard_normal(shape)
    with pytest.raises(DataError) as error:
        components.fit(features, number)
    assert str(error.value) == message
    assert len(components.fit(features, number - 1)) == number - 1


def test_padding_counts_for_nothing_where_fragments_are_few() -> None:
    features = np.random.default_rng(0).standard_normal((3, 2, 7))
    features[:, 1] = 0
    with pytest.raises(DataError, match="there are 3"):
        components.fit(features, 3)


def test_fragments_that_are_all_the_same() -> None:
    with pytest.raises(DataError, match="--reduce 1: all 6 training fragments are the same"):
        components.fit(np.ones((3, 2, 7)), 1)


def test_stored_components_are_the_same(tmp_path: Path) -> None:
    found = components.fit(fragments(), 3)
    found.save(tmp_path / "one.npz")
    found.save(tmp_path / "other.npz")
    assert components.load(tmp_path / "one.npz").digest == found.digest
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()


@pytest.mark.parametrize("data", [None, b"", b"PK\x03\x04", b"text"])
def test_files_that_are_no_components(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "components.npz"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError) as error:
        components.load(path)
    said = "no such file" if data is None else "no principal components as this program writes them"
    assert str(error.value) == f"{path}: {said}"
