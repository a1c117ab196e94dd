import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from mrcnn.geometry import boxes


def box(limit=1000.0, least=0.5):
    start = st.floats(0, limit, width=32)
    side = st.floats(least, limit, width=32)
    return st.tuples(start, start, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def test_iou_by_hand():
    first = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 5, 5]], np.float32)
    second = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 5, 5]], np.float32)
    expected = [[1, 2 / 6, 0], [1 / 7, 2 / 6, 0], [0, 0, 0]]
    np.testing.assert_allclose(ops.convert_to_numpy(boxes.pairwise_iou(first, second)), expected, atol=1e-6)


def test_iou_of_boxes_smaller_than_a_pixel():
    first, second = np.array([[0, 0, 0.25, 0.5]], np.float32), np.array([[0, 0, 0.25, 0.25]], np.float32)
    assert float(boxes.pairwise_iou(first, second)[0, 0]) == pytest.approx(0.5)


def test_touching_boxes_do_not_overlap():
    # x2 is exclusive: the pixel column 2 belongs to the second box alone.
    iou = boxes.pairwise_iou(np.array([[0, 0, 2, 4]], np.float32), np.array([[2, 0, 4, 4]], np.float32))
    assert float(iou[0, 0]) == 0


def test_encode_by_hand():
    # Reference centered at (10, 10) of 20 × 10; the box is centered at (14, 8) and twice as wide, half as high.
    reference = np.array([0, 5, 20, 15], np.float32)
    truth = np.array([-6, 5.5, 34, 10.5], np.float32)
    expected = [4 / 20, -2 / 10, np.log(2), np.log(0.5)]
    np.testing.assert_allclose(ops.convert_to_numpy(boxes.encode(truth, reference)), expected, rtol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(boxes.decode(np.float32(expected), reference)), truth, rtol=1e-5)
    scaled = ops.convert_to_numpy(boxes.encode(truth, reference, (10, 10, 5, 5)))
    np.testing.assert_allclose(scaled, np.multiply(expected, [10, 10, 5, 5]), rtol=1e-5)


@given(box(), box())
def test_decode_inverts_encode(truth, reference):
    truth, reference = np.array(truth, np.float32), np.array(reference, np.float32)
    if max((truth[2:] - truth[:2]) / (reference[2:] - reference[:2])) > 60:
        return  # beyond the growth that decode allows in one step
    back = ops.convert_to_numpy(boxes.decode(boxes.encode(truth, reference, (10, 10, 5, 5)), reference, (10, 10, 5, 5)))
    np.testing.assert_allclose(back, truth, atol=2e-2, rtol=1e-4)


def test_a_side_grows_from_16_to_1000_pixels_at_most():
    grown = ops.convert_to_numpy(boxes.decode(np.array([0, 0, 9, 9], np.float32), np.array([0, 0, 16, 16], np.float32)))
    np.testing.assert_allclose(grown, [-492, -492, 508, 508], rtol=1e-4)


def test_decode_stays_finite():
    wild = np.array([1e6, -1e6, 1e6, 1e6], np.float32)
    assert np.isfinite(ops.convert_to_numpy(boxes.decode(wild, np.array([0, 0, 1, 1], np.float32)))).all()


@pytest.mark.parametrize(
    ("given_box", "expected"),
    [([-5, -5, 5, 5], [0, 0, 5, 5]), ([90, 90, 120, 130], [90, 80, 100, 80]), ([120, 0, 130, 5], [100, 0, 100, 5])],
)
def test_clip(given_box, expected):
    clipped = boxes.clip(np.array(given_box, np.float32), (80, 100))
    np.testing.assert_array_equal(ops.convert_to_numpy(clipped), expected)
