"""Is a feature read from a byte as near to itself as the file says, and a row of zeros a row of zeros?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.data.int8 import Int8, decoded, encoded


def test_by_hand() -> None:
    codes, scales = encoded(np.array([[127, -63.4, 0.5, 0], [0, 0, 0, 0], [-2, 1, 0, 0]]))
    assert codes.tolist() == [[127, -63, 0, 0], [0, 0, 0, 0], [-127, 64, 0, 0]]
    np.testing.assert_allclose(scales, [1, 0, 2 / 127], rtol=1e-6)
    assert (codes.dtype, scales.dtype) == (np.int8, np.float32)
    np.testing.assert_allclose(decoded(codes, scales)[2], [-2, 128 / 127, 0, 0], rtol=1e-6)


@given(arrays(np.float16, (3, 2, 5), elements=st.floats(-60000, 60000, width=16)))
def test_no_feature_is_off_by_more_than_half_a_scale(features: np.ndarray) -> None:
    read = decoded(*encoded(features))
    largest = np.abs(features.astype(np.float64)).max(-1, keepdims=True)
    assert (np.abs(read - features.astype(np.float64)) <= largest / 254 * (1 + 1e-4)).all()
    np.testing.assert_array_equal(read.any(-1), features.any(-1))  # padding and nothing else is zero


@pytest.mark.parametrize("key", [3, slice(1, 4), np.array([4, 0, 4]), (slice(None), 0), np.arange(5) > 2])
def test_what_is_asked_for_is_decoded(key: object) -> None:
    codes, scales = encoded(np.random.default_rng(0).standard_normal((5, 2, 3)))
    store = Int8(codes, scales)
    np.testing.assert_array_equal(store[key], decoded(codes, scales)[key])  # type: ignore[index]
    assert (store.shape, len(store), store.dtype) == ((5, 2, 3), 5, np.float32)
