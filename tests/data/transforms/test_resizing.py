"""Reduced samples against block averages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrcnn.data import Sample
from mrcnn.data.transforms.resizing import downscale_sample

RNG = np.random.default_rng(3)


def sample(image, masks, **more):
    return Sample(image, masks, np.arange(1, len(masks) + 1, dtype=np.int32), "p", "x.png", **more)


def test_small_samples_stay():
    given = sample(np.zeros((20, 30, 1), np.uint8), np.ones((1, 20, 30), bool))
    assert downscale_sample(given, (30, 30)) is given


@pytest.mark.parametrize("factor", [2, 4])
def test_masks_by_majority_of_each_block(factor):
    masks = RNG.random((6, 16 * factor, 24 * factor)) < RNG.random((6, 1, 1))
    masks[:, :factor, :factor] = True  # each covers a whole pixel of the result, so that half of one is the limit
    blocks = masks.reshape(6, 16, factor, 24, factor).mean((2, 4))
    reduced = downscale_sample(sample(np.zeros((*masks.shape[1:], 3), np.uint8), masks), (20, 24))
    assert reduced.image.shape == (16, 24, 3)
    np.testing.assert_array_equal(reduced.masks, blocks >= 0.5)


@given(st.integers(33, 150), st.integers(33, 150), st.data())
def test_no_instance_vanishes_and_none_moves(height, width, data):
    x1 = data.draw(st.integers(0, width - 1))
    y1 = data.draw(st.integers(0, height - 1))
    x2 = data.draw(st.integers(x1 + 1, width))
    y2 = data.draw(st.integers(y1 + 1, height))
    mask = np.zeros((1, height, width), bool)
    mask[0, y1:y2, x1:x2] = True
    reduced = downscale_sample(sample(np.zeros((height, width, 1), np.uint8), mask), (32, 32))
    rows, columns = np.nonzero(reduced.masks[0])
    assert len(rows)
    scale = 32 / max(height, width)
    got = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    # Up to a pixel of the lower and right edge is cut off with the image.
    limits = np.tile(reduced.masks.shape[:0:-1], 2)
    np.testing.assert_allclose(got, np.minimum(np.array([x1, y1, x2, y2]) * scale, limits), atol=1.0)


def test_spacing_grows_as_pixels_do():
    reduced = downscale_sample(
        sample(np.zeros((40, 80, 1), np.float32), np.zeros((0, 40, 80), bool), spacing_mm=(0.1, 0.2)), (10, 40)
    )
    assert reduced.spacing_mm == pytest.approx((0.4, 0.8))
    assert reduced.masks.shape == (0, 10, 20)
    assert reduced.image.dtype == np.float32
