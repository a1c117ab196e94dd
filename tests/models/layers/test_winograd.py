import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy.signal import correlate

from mrcnn.models.layers.convolutions import winograd_convolve


@settings(max_examples=30)
@given(
    images=st.integers(1, 2),
    height=st.integers(1, 13),
    width=st.integers(1, 13),
    channels=st.integers(1, 3),
    filters=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_correlation_of_scipy(images, height, width, channels, filters, seed):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(images, height, width, channels)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, channels, filters)).astype(np.float32)
    found = ops.convert_to_numpy(winograd_convolve(inputs, kernel))
    assert found.shape == (images, height, width, filters)
    for image in range(images):
        for out in range(filters):
            padded = np.pad(inputs[image].astype(np.float64), ((1, 1), (1, 1), (0, 0)))
            expected = correlate(padded, kernel[..., out].astype(np.float64), "valid", method="direct")[..., 0]
            np.testing.assert_allclose(found[image, ..., out], expected, atol=2e-4)


def test_rounding_stays_small_over_many_channels():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(1, 32, 32, 256)).astype(np.float32)
    kernel = (rng.normal(size=(3, 3, 256, 64)) / np.sqrt(9 * 256)).astype(np.float32)
    found = ops.convert_to_numpy(winograd_convolve(inputs, kernel))
    expected = ops.convert_to_numpy(ops.conv(inputs, kernel, padding="same"))
    assert np.std(expected) == pytest.approx(1, abs=0.1)
    assert np.abs(found - expected).max() < 2e-4
    assert np.sqrt(np.mean((found - expected) ** 2)) < 2e-5
