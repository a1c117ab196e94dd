import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from mrcnn.geometry.nms import non_maximum_suppression, tiled_suppression


def greedy(boxes, valid, threshold):
    """Suppress with the textbook loop."""

    def iou(a, b):
        width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
        return width * height / union if union > 0 else 0.0

    kept = []
    for i in range(len(boxes)):
        if valid[i] and all(iou(boxes[j], boxes[i]) <= threshold for j in kept):
            kept.append(i)
    return [i in kept for i in range(len(boxes))]


def run(boxes, valid, threshold):
    return ops.convert_to_numpy(non_maximum_suppression(np.asarray(boxes, np.float32), np.asarray(valid), threshold))


def test_a_suppressed_box_suppresses_nothing():
    # b overlaps a and c; a and c do not overlap. Greedy: a kept, b dropped, c kept.
    boxes = [[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10]]
    assert run(boxes, [True] * 3, 0.3).tolist() == [True, False, True]
    assert run(boxes, [False, True, True], 0.3).tolist() == [False, True, False]


def test_an_overlap_of_the_threshold_is_allowed():
    assert run([[0, 0, 2, 1], [0, 0, 1, 1]], [True] * 2, 0.5).tolist() == [True, True]  # their IoU is a half


def test_long_chain_needs_many_rounds():
    boxes = [[4 * i, 0, 4 * i + 10, 10] for i in range(40)]
    assert run(boxes, [True] * 40, 0.3).tolist() == greedy(boxes, [True] * 40, 0.3)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_batches_against_the_loop(threshold):
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 60, (2, 3, 50, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 40, corner.shape)], axis=-1).astype(np.float32)
    valid = rng.random((2, 3, 50)) < 0.8
    kept = run(boxes, valid, threshold)
    for i in range(2):
        for j in range(3):
            assert kept[i, j].tolist() == greedy(boxes[i, j], valid[i, j], threshold)


@settings(max_examples=30)
@given(st.data())
def test_small_integer_boxes_against_the_loop(data):
    # Always twelve boxes, so that a backend that compiles by shape compiles once.
    corner = st.integers(0, 8)
    side = st.integers(0, 6)
    drawn = data.draw(st.lists(st.tuples(corner, corner, side, side), min_size=12, max_size=12))
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in drawn], np.float32)
    valid = np.array(data.draw(st.lists(st.booleans(), min_size=12, max_size=12)))
    assert run(boxes, valid, 0.45).tolist() == greedy(boxes, valid, 0.45)


def test_nothing_valid():
    assert not run([[0, 0, 1, 1]] * 4, [False] * 4, 0.5).any()


def test_tiles_do_not_change_the_suppression():
    rng = np.random.default_rng(2)
    low = rng.uniform(0, 40, (2, 230, 2))
    boxes = np.concatenate([low, low + rng.uniform(0, 20, (2, 230, 2))], axis=-1).astype(np.float32)
    valid = rng.uniform(size=(2, 230)) < 0.9
    whole = ops.convert_to_numpy(non_maximum_suppression(boxes, valid, 0.4))
    tiled = ops.convert_to_numpy(tiled_suppression(boxes, valid, 0.4, tile=50))
    assert 10 < whole.sum() < valid.sum()
    np.testing.assert_array_equal(tiled, whole)
