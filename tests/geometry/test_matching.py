import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from mrcnn.geometry.matching import match, sample, take_rows


def to_numpy(values):
    return [ops.convert_to_numpy(value) for value in values]


def test_match_by_hand():
    candidates = np.array(
        [
            [0, 0, 10, 10],  # IoU 1 with box 0: positive
            [0, 0, 10, 20],  # IoU .5 with box 0: neither
            [50, 50, 60, 60],  # nothing: negative
            [20, 0, 24, 10],  # IoU .4 with box 1, its best: positive only where each box gets its best
            [20, 0, 22, 10],  # IoU .2 with box 1: negative
        ],
        np.float32,
    )
    boxes = np.array([[[0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 0, 0]]], np.float32)
    valid = np.array([[True, True, False]])
    positive, negative, matched = to_numpy(match(candidates, boxes, valid, 0.7, 0.3, best_for_each=True))
    assert positive.tolist() == [[True, False, False, True, False]]
    assert negative.tolist() == [[False, False, True, False, True]]
    assert matched[0, [0, 1, 3, 4]].tolist() == [0, 0, 1, 1]
    positive, negative, _ = to_numpy(match(candidates, boxes, valid, 0.7, 0.7, best_for_each=False))
    assert positive.tolist() == [[True, False, False, False, False]]
    assert negative.tolist() == [[False, True, True, True, True]]


def test_without_instances_everything_is_negative():
    candidates = np.array([[0, 0, 10, 10], [5, 5, 9, 9]], np.float32)
    positive, negative, _ = to_numpy(
        match(candidates, np.zeros((1, 3, 4), np.float32), np.zeros((1, 3), bool), 0.7, 0.3, best_for_each=True)
    )
    assert not positive.any()
    assert negative.all()


def test_padding_is_never_matched():
    # The padded box lies exactly on the candidate; it must count for nothing.
    boxes = np.array([[[0, 0, 10, 10]]], np.float32)
    positive, negative, _ = to_numpy(match(boxes[0], boxes, np.array([[False]]), 0.7, 0.3, best_for_each=True))
    assert not positive.any()
    assert negative.all()


@given(st.lists(st.booleans(), min_size=20, max_size=20), st.integers(0, 2**31))
def test_sample_contains_only_candidates_up_to_its_size(candidates, seed):
    noise = np.random.default_rng(seed).random((1, 20)).astype(np.float32)
    index, chosen = to_numpy(sample(np.array([candidates]), noise, 6))
    assert index.shape == chosen.shape == (1, 6)
    taken = index[0][chosen[0]]
    assert len(set(taken)) == len(taken) == min(6, sum(candidates))
    assert all(candidates[i] for i in taken)


def test_sample_is_uniform():
    noise = np.random.default_rng(0).random((4000, 10)).astype(np.float32)
    candidates = np.tile(np.arange(10) < 8, (4000, 1))
    index, chosen = to_numpy(sample(candidates, noise, 2))
    counts = np.bincount(index[chosen], minlength=10)
    assert counts[8:].sum() == 0
    np.testing.assert_allclose(counts[:8], 1000, atol=120)  # four standard deviations


def test_fewer_candidates_than_slots():
    index, chosen = to_numpy(sample(np.array([[True, False, True]]), np.array([[0.1, 0.2, 0.3]], np.float32), 8))
    assert chosen.sum() == 2
    assert set(index[chosen]) == {0, 2}


def test_take_rows_of_any_rank():
    values = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    taken = ops.convert_to_numpy(take_rows(values, np.array([[2, 0], [1, 1]], np.int32)))
    np.testing.assert_array_equal(taken, [values[0, [2, 0]], values[1, [1, 1]]])


def test_true_boxes_of_equal_iou_are_each_matched():
    boxes = np.float32([[[0, 0, 10, 10], [4, 4, 24, 24], [4, 4, 24, 24], [0, 0, 0, 0]]])
    candidates = np.float32([[[4, 4, 24, 24]] * 4 + [[0, 0, 10, 10]]])
    noise = np.float32([[0.0, 0.49, 0.5, 0.999, 0.999]])
    valid = np.array([[True, True, True, False]])
    _, _, matched = match(candidates, boxes, valid, 0.5, 0.5, best_for_each=False, noise=noise)
    assert np.asarray(matched).tolist() == [[1, 1, 2, 2, 0]]
