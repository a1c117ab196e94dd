"""Matching and overlap, against results by hand and NumPy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mrcnn.metrics.matching import match, overlap
from mrcnn.rle import encode


@pytest.mark.parametrize(
    ("ious", "truth_classes", "classes", "expected"),
    [
        ([[0.9, 0.6], [0.55, 0.8]], [1, 1], [1, 1], [0, 1]),  # each its best
        ([[0.6], [0.9]], [1], [1, 1], [0, -1]),  # the better score chooses first even when it fits worse
        ([[0.9, 0.6], [0.8, 0.7]], [1, 1], [1, 1], [0, 1]),  # a taken instance leaves the next best
        ([[0.9, 0.6], [0.8, 0.4]], [1, 1], [1, 1], [0, -1]),
        ([[0.5], [0.49]], [1], [1, 1], [0, -1]),  # the threshold is included
        ([[0.9, 0.6]], [2, 1], [1], [1]),  # another class is no match
        ([[0.9]], [2], [1], [-1]),
        ([[0.7, 0.7]], [1, 1], [1], [1]),  # of equal ones the last, as COCOeval
        (np.zeros((0, 2)), [1, 1], [], []),
        (np.zeros((2, 0)), [], [1, 1], [-1, -1]),
        (np.zeros((0, 0)), [], [], []),
    ],
)
def test_matches(ious, truth_classes, classes, expected):
    assert match(np.array(ious, float), np.array(truth_classes), np.array(classes)).tolist() == expected


def test_by_hand():
    # T T . . .      . . . . .
    # T T . . .      . P P . .
    # . . . . .      . P P . .
    truth, predicted = np.zeros((2, 1, 5, 5), bool)
    truth[0, :2, :2] = True
    predicted[0, 1:3, 1:3] = True
    both = overlap(encode(truth), encode(predicted))
    assert both.dice == pytest.approx(2 * 1 / (4 + 4))
    assert both.iou == pytest.approx(1 / 7)


def test_masks_that_overlap_each_other_count_once():
    truth = np.zeros((2, 5, 5), bool)
    truth[0, :, :3] = truth[1, :, 2:] = True
    assert overlap(encode(truth), encode(np.ones((1, 5, 5), bool))).dice == 1


def test_empty():
    some, empty_mask = encode(np.ones((1, 3, 3), bool)), encode(np.zeros((1, 3, 3), bool))
    for nothing in ([], empty_mask):
        assert math.isnan(overlap(nothing, nothing).dice)
        assert math.isnan(overlap(nothing, nothing).iou)
        assert overlap(some, nothing).dice == overlap(nothing, some).dice == 0
        assert overlap(some, nothing).iou == overlap(nothing, some).iou == 0


@given(hnp.arrays(bool, st.tuples(st.integers(2, 5), st.just(6), st.just(5))))
def test_against_numpy(masks):
    truth, predicted = masks[:2].any(axis=0), masks[2:].any(axis=0)
    both = overlap(encode(masks[:2]), encode(masks[2:]))
    assert (both.truth, both.predicted) == (truth.sum(), predicted.sum())
    assert both.intersection == (truth & predicted).sum()
    if truth.any() or predicted.any():
        assert both.iou == pytest.approx((truth & predicted).sum() / (truth | predicted).sum())
        assert both.dice == pytest.approx(2 * both.iou / (1 + both.iou))
