import numpy as np

from mrcnn.detections import Detections
from mrcnn.inference.linking import link_slices


def slice_of(*squares, size=20):
    """Detections of a slice: (class id, left, top, side) each."""
    masks = np.zeros((len(squares), size, size), bool)
    for mask, (_, left, top, side) in zip(masks, squares, strict=True):
        mask[top : top + side, left : left + side] = True
    ids = np.array([square[0] for square in squares], np.int32)
    return Detections(np.zeros((len(squares), 4), np.float32), np.linspace(0.9, 0.5, len(squares)), ids, masks)


def linked(*slices):
    numbered = dict(slices) if isinstance(slices[0], tuple) else dict(enumerate(slices))
    return [numbers.tolist() for numbers in link_slices(numbered).values()]


def test_objects_keep_their_number_through_slices_whatever_the_order_of_scores():
    first = slice_of((1, 0, 0, 6), (1, 10, 10, 6))
    second = slice_of((1, 11, 10, 6), (1, 0, 1, 6), (1, 0, 14, 4))
    assert linked(first, second, slice_of((1, 0, 14, 4))) == [[1, 2], [2, 1, 3], [3]]


def test_pairs_have_the_largest_sum_of_overlaps_not_the_best_pair_first():
    # IoU: A–C 7/13, A–D 5/10, B–C 5/15, B–D 0. The best pair alone would leave B and D as two objects.
    masks = np.zeros((4, 1, 20), bool)
    for mask, (start, stop) in zip(masks, ((0, 10), (8, 18), (3, 13), (0, 5)), strict=True):
        mask[0, start:stop] = True
    boxes, scores, ids = np.zeros((2, 4), np.float32), np.ones(2, np.float32), np.ones(2, np.int32)
    assert linked(*(Detections(boxes, scores, ids, masks[part]) for part in (slice(0, 2), slice(2, 4)))) == [
        [1, 2],
        [2, 1],
    ]


def test_other_classes_gaps_small_overlaps_and_empty_slices_begin_new_objects():
    one = (1, 4, 4, 8)
    assert linked(slice_of(one), slice_of((2, 4, 4, 8))) == [[1], [2]]
    assert linked((3, slice_of(one)), (5, slice_of(one))) == [[1], [2]]
    assert linked(slice_of(one), slice_of(), slice_of(one)) == [[1], [], [2]]
    # 16 pixels of 112 are shared.
    assert linked(slice_of(one), slice_of((1, 8, 8, 8))) == [[1], [2]]
