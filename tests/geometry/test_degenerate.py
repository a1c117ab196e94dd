"""Test that geometry and losses never return NaN for empty, inverted, distant or non-finite boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops

from mrcnn.geometry import boxes as box_ops
from mrcnn.geometry.masks import crop_masks
from mrcnn.geometry.matching import match, sample
from mrcnn.geometry.nms import non_maximum_suppression
from mrcnn.geometry.roi_align import roi_align
from mrcnn.models.mask_rcnn import losses

SIZE = 64
# Few values, so that sides of zero, equal boxes and touching ones are common.
corner = st.one_of(st.integers(0, SIZE).map(float), st.floats(0, SIZE, width=32), st.floats(-1e6, 1e6, width=32))
wild = st.one_of(corner, st.floats(width=32))
logits = st.one_of(st.floats(-50, 50, width=32), st.floats(-(2.0**100), 2.0**100, width=32))


def boxes_of(count, elements=corner):
    return hnp.arrays(np.float32, (1, count, 4), elements=elements)


def ordered(boxes):
    """Generate true boxes: x1 ≤ x2, y1 ≤ y2, within the image."""
    boxes = np.clip(boxes, 0, SIZE)
    return np.concatenate([np.minimum(boxes[..., :2], boxes[..., 2:]), np.maximum(boxes[..., :2], boxes[..., 2:])], -1)


def array(value):
    return ops.convert_to_numpy(value)


@settings(max_examples=25)
@given(boxes_of(5), boxes_of(5))
def test_coding_is_finite(truth, references):
    deltas = array(box_ops.encode(truth, references, (10, 10, 5, 5)))
    assert np.isfinite(deltas).all()
    assert np.isfinite(array(box_ops.decode(deltas, references, (10, 10, 5, 5)))).all()


@settings(max_examples=25)
@given(boxes_of(5, wild), boxes_of(5))
def test_any_deltas_decode_to_boxes_in_the_image(deltas, references):
    found = array(box_ops.clip(box_ops.decode(deltas, references), (SIZE, SIZE)))
    assert ((found >= 0) & (found <= SIZE)).all()
    assert (found[..., 2:] >= found[..., :2]).all()


@settings(max_examples=25)
@given(boxes_of(4), boxes_of(6))
def test_iou_is_between_0_and_1(first, second):
    found = array(box_ops.pairwise_iou(first, second))
    assert ((found >= 0) & (found <= 1 + 1e-5)).all()


@settings(max_examples=25)
@given(boxes_of(6), boxes_of(4), hnp.arrays(bool, (1, 4)), st.booleans())
def test_matching_is_consistent_and_ignores_padding(candidates, truth, valid, best_for_each):
    truth = np.where(valid[..., None], ordered(truth), 0).astype(np.float32)
    positive, negative, matched = (array(each) for each in match(
        candidates, truth, valid, 0.5, 0.3, best_for_each=best_for_each))  # fmt: skip
    assert not (positive & negative).any()
    assert ((matched >= 0) & (matched < 4)).all()
    assert valid[0, matched[positive[0][None]]].all()
    assert valid.any() or negative.all()


@settings(max_examples=25)
@given(hnp.arrays(bool, (1, 9)), st.integers(1, 12))
def test_sample_contains_each_candidate_once(candidates, count):
    noise = np.random.default_rng(0).random((1, 9), np.float32)
    index, chosen = (array(each)[0] for each in sample(candidates, noise, count))
    taken = index[chosen]
    assert len(set(taken)) == len(taken) == min(count, candidates.sum())
    assert candidates[0, taken].all()


@settings(max_examples=25)
@given(boxes_of(6), hnp.arrays(bool, (1, 6)))
def test_suppression_selects_only_valid_boxes(boxes, valid):
    kept = array(non_maximum_suppression(boxes, valid, 0.5))
    assert not (kept & ~valid).any()
    assert kept.any() == valid.any()


@settings(max_examples=25)
@given(boxes_of(3, wild))
def test_pooling_any_boxes_gives_means_of_the_features(gradients, boxes):
    rng = np.random.default_rng(0)
    levels = [rng.uniform(1, 2, (1, side, side, 2)).astype(np.float32) for side in (16, 8)]
    found = array(roi_align(levels, boxes, (4, 8), 2))
    # Between the least and the largest feature, or less where a part lies outside.
    assert ((found >= 0) & (found <= 2 + 1e-5)).all()
    slopes = gradients(lambda *levels: ops.sum(roi_align(list(levels), boxes, (4, 8), 2)), *levels)
    assert all(np.isfinite(slope).all() for slope in slopes)


@settings(max_examples=25)
@given(boxes_of(3), boxes_of(3))
def test_mask_targets_are_zero_or_one(truth, regions):
    masks = np.random.default_rng(0).random((1, 3, 4, 4), np.float32)
    found = array(crop_masks(masks, ordered(truth), regions, 5))
    assert np.isin(found, (0, 1)).all()


def finite(gradients, loss, *values):
    assert np.isfinite(float(loss(*values)))
    assert all(np.isfinite(slope).all() for slope in gradients(loss, *values))


@settings(max_examples=25)
@given(hnp.arrays(np.float32, (1, 4), elements=logits), hnp.arrays(bool, (1, 4)), hnp.arrays(bool, (1, 4)))
def test_objectness_is_finite(gradients, values, positive, used):
    positive, used = (positive & used).astype(np.float32), used.astype(np.float32)
    finite(gradients, lambda values: losses.objectness(values, positive, used), values)


@settings(max_examples=25)
@given(boxes_of(3, logits), boxes_of(3), hnp.arrays(bool, (1, 3)), st.sampled_from([1 / 9, 1.0]))
def test_box_loss_is_finite(gradients, deltas, truth, positive, beta):
    targets, positive = array(box_ops.encode(ordered(truth), ordered(truth[:, ::-1]))), positive.astype(np.float32)
    finite(gradients, lambda deltas: losses.box_regression(deltas, targets, positive, positive, beta), deltas)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@settings(max_examples=25)
@given(hnp.arrays(np.float32, (1, 3, 3), elements=logits), hnp.arrays(np.int32, (1, 3), elements=st.integers(0, 2)),
       hnp.arrays(bool, (1, 3)))  # fmt: skip
def test_class_loss_is_finite(gradients, gamma, values, class_ids, used):
    used = used.astype(np.float32)
    finite(gradients, lambda values: losses.classification(values, class_ids, used, None, gamma), values)


@settings(max_examples=25)
@given(hnp.arrays(np.float32, (1, 2, 3, 3), elements=logits), hnp.arrays(bool, (1, 2)))
def test_mask_loss_is_finite(gradients, values, positive):
    targets, positive = (np.abs(values) % 2 < 1).astype(np.float32), positive.astype(np.float32)
    finite(gradients, lambda values: losses.mask_cross_entropy(values, targets, positive), values)
