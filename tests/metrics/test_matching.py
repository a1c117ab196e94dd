"""Matching and overlap, against results by hand and NumPy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mrcnn.metrics.matching import match, overlap
from mrcnn.metrics.rle import encode


def run(ious, truth_classes, classes):
    return match(np.array(ious, float), np.array(truth_classes), np.array(classes)).tolist()


def test_each_detection_takes_its_best():
    assert run([[0.9, 0.6], [0.55, 0.8]], [1, 1], [1, 1]) == [0, 1]


def test_the_better_score_chooses_first_even_when_it_fits_worse():
    assert run([[0.6], [0.9]], [1], [1, 1]) == [0, -1]


def test_a_taken_instance_leaves_the_next_best():
    assert run([[0.9, 0.6], [0.8, 0.7]], [1, 1], [1, 1]) == [0, 1]
    assert run([[0.9, 0.6], [0.8, 0.4]], [1, 1], [1, 1]) == [0, -1]


def test_threshold_is_included():
    assert run([[0.5], [0.49]], [1], [1, 1]) == [0, -1]


def test_other_class_is_no_match():
    assert run([[0.9, 0.6]], [2, 1], [1]) == [1]
    assert run([[0.9]], [2], [1]) == [-1]


def test_equal_ious_take_the_last_as_cocoeval_does():
    assert run([[0.7, 0.7]], [1, 1], [1]) == [1]


def test_nothing_to_match():
    assert run(np.zeros((0, 2)), [1, 1], []) == []
    assert run(np.zeros((2, 0)), [], [1, 1]) == [-1, -1]
    assert run(np.zeros((0, 0)), [], []) == []


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
