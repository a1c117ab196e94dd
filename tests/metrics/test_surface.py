import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from mrcnn.metrics.surface import hausdorff95, surface, surface_points
from mrcnn.rle import encode


def brute_force(truth, predicted, spacing):
    """All pairs of surface pixels; percentile by linear interpolation between ranks."""

    def directed(start, end):
        nearest = sorted(
            min(math.hypot((a[0] - b[0]) * spacing[0], (a[1] - b[1]) * spacing[1]) for b in end) for a in start
        )
        rank = 0.95 * (len(nearest) - 1)
        low = math.floor(rank)
        high = min(low + 1, len(nearest) - 1)
        return nearest[low] + (rank - low) * (nearest[high] - nearest[low])

    points = [np.argwhere(mask & ~ndimage.binary_erosion(mask)).tolist() for mask in (truth, predicted)]
    return max(directed(*points), directed(*points[::-1]))


def points_of(mask):
    return surface_points(encode(mask[None]))


def test_surface_by_hand():
    mask = np.array([[0, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    # The right column touches the border of the image; (2, 2) stays inside, for only a diagonal neighbor is outside.
    expected = [[0, 1, 1, 1, 1], [0, 1, 0, 0, 1], [0, 1, 0, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert surface(mask).astype(int).tolist() == expected


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=3, max_side=8)))
def test_surface_is_mask_minus_erosion(mask):
    assert (surface(mask) == (mask & ~ndimage.binary_erosion(mask))).all()


def test_two_pixels_with_spacing():
    truth, predicted = np.zeros((2, 5, 5), bool)
    truth[0, 0] = predicted[3, 4] = True
    points = points_of(truth), points_of(predicted)
    assert hausdorff95(*points) == 5
    assert hausdorff95(*points, spacing=(2.0, 0.5)) == pytest.approx(math.hypot(6, 2))


def test_square_moved_by_one_pixel():
    # T T T .      . P P P     The rings share four pixels; the left three of T and the right three of P are at 1, and
    # T . T .      . P . P     so is the pixel of each that lies in the other's hole.
    # T T T .      . P P P
    truth, predicted = np.zeros((2, 5, 5), bool)
    truth[1:4, 0:3] = predicted[1:4, 1:4] = True
    assert hausdorff95(points_of(truth), points_of(predicted)) == 1


def test_larger_of_the_two_directions_not_both_pooled():
    # The prediction is a row of 100 pixels, the truth the same row and 8 pixels ten rows below: 7 % of the truth's
    # pixels are at 10, but only 4 % of both sets together.
    truth, predicted = np.zeros((2, 12, 100), bool)
    predicted[0] = truth[0] = truth[10, 40:48] = True
    assert hausdorff95(points_of(truth), points_of(predicted)) == 10
    assert hausdorff95(points_of(predicted), points_of(truth)) == 10


def test_one_far_pixel_in_forty_does_not_count():
    truth = np.zeros((60, 60), bool)
    truth[0, :40] = True
    predicted = truth.copy()
    predicted[59, 59] = True
    assert hausdorff95(points_of(truth), points_of(predicted)) == 0


def test_empty():
    some = np.zeros((1, 2))
    for pair in ((some, some[:0]), (some[:0], some), (some[:0], some[:0])):
        assert math.isnan(hausdorff95(*pair))
    assert surface_points([]).shape == surface_points(encode(np.zeros((1, 4, 4), bool))).shape == (0, 2)


masks = hnp.arrays(bool, (7, 9)).filter(np.any)
spacings = st.tuples(st.floats(0.1, 3), st.floats(0.1, 3))


@given(masks, masks, spacings)
def test_against_all_pairs(truth, predicted, spacing):
    assert hausdorff95(points_of(truth), points_of(predicted), spacing) == pytest.approx(
        brute_force(truth, predicted, spacing)
    )


def test_union_of_masks():
    parts = np.zeros((2, 5, 5), bool)
    parts[0, 1:4, 0:3] = parts[1, 1:4, 2:5] = True
    assert (surface_points(encode(parts)) == points_of(parts.any(axis=0))).all()
