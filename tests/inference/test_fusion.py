"""Test the fusion of detections on small examples, by its invariants and against the formula of the paper."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.detections import Detections
from mrcnn.inference.fusion import fuse_detections

SIDE = 20


def found(*instances, side=SIDE):
    """Create detections of rectangles (x1, y1, x2, y2, score[, class id]); the default class id is 1."""
    masks = np.zeros((len(instances), side, side), bool)
    for mask, (x1, y1, x2, y2, *_) in zip(masks, instances, strict=True):
        mask[y1:y2, x1:x2] = True
    return Detections(
        np.array([each[:4] for each in instances], np.float32).reshape(-1, 4),
        np.array([each[4] for each in instances], np.float32),
        np.array([each[5] if len(each) > 5 else 1 for each in instances], np.int32),
        masks,
    )


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def rectangle(mask):
    rows, columns = np.nonzero(mask)
    assert mask.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_two_boxes_of_one_instance_fuse_to_their_weighted_mean():
    # IoU 80 / 120 = 0.67. Weights 0.9 and 0.6: x1 = 0.6 · 2 / 1.5, x2 = (0.9 · 10 + 0.6 · 12) / 1.5.
    both = fuse_detections([found((0, 0, 10, 10, 0.9)), found((2, 0, 12, 10, 0.6))])
    np.testing.assert_allclose(both.boxes, [[0.8, 0, 10.8, 10]], rtol=1e-6)
    np.testing.assert_allclose(both.scores, [0.75], rtol=1e-6)
    # Columns 0, 1 and 10, 11 are in one mask each; the half-way outline runs between 0 and 1, and between 10 and 11.
    assert rectangle(both.masks[0]) == [1, 0, 11, 10]


def test_detection_of_one_of_three_has_a_third_of_its_score():
    some = fuse_detections([found((0, 0, 5, 5, 0.9), (10, 10, 18, 18, 0.8)), found((0, 0, 5, 5, 0.6)), found()])
    np.testing.assert_allclose(some.scores, [(0.9 + 0.6) / 3, 0.8 / 3], rtol=1e-6)
    np.testing.assert_array_equal(some.boxes, [[0, 0, 5, 5], [10, 10, 18, 18]])
    np.testing.assert_array_equal(some.masks[1], found((10, 10, 18, 18, 1)).masks[0])


def test_majority_of_three_masks_per_pixel():
    three = fuse_detections([found((0, 0, 10, 10, 0.5)), found((1, 0, 11, 10, 0.5)), found((2, 0, 12, 10, 0.5))])
    assert len(three) == 1
    assert rectangle(three.masks[0]) == [1, 0, 11, 10]


def test_distant_boxes_and_other_classes_are_not_fused():
    # 50 / 150 is less than 0.55, 100 / 100 is of another class.
    apart = fuse_detections([found((0, 0, 10, 10, 0.9)), found((5, 0, 15, 10, 0.6)), found((0, 0, 10, 10, 0.3, 2))])
    assert apart.class_ids.tolist() == [1, 1, 2]
    np.testing.assert_allclose(apart.scores, [0.3, 0.2, 0.1], rtol=1e-6)


def test_box_joins_the_fused_box_of_highest_iou():
    # With (0 … 10) it shares 7.5 / 12.5, with (5 … 15) too much less; the other way round at 4.
    first, second = (0, 0, 10, 10, 0.9), (6, 0, 16, 10, 0.8)
    near = fuse_detections([found(first, second), found((2, 0, 12, 10, 0.7))])
    assert sorted(near.boxes[:, 0].tolist()) == pytest.approx([0.7 * 2 / 1.6, 6])
    near = fuse_detections([found(first, second), found((4, 0, 14, 10, 0.7))])
    assert sorted(near.boxes[:, 0].tolist()) == pytest.approx([0, (0.8 * 6 + 0.7 * 4) / 1.5])


def test_more_boxes_than_members_count_as_all_members():
    """Two detections of one member do not raise the score above the mean: min(T, N) / N."""
    twice = fuse_detections([found((0, 0, 10, 10, 0.9), (0, 0, 10, 9, 0.7)), found((0, 0, 10, 10, 0.8))])
    np.testing.assert_allclose(twice.scores, [0.8], rtol=1e-6)


def test_no_detections_limit_and_invalid_sizes():
    assert fuse_detections([found(), found()]).masks.shape == (0, SIDE, SIDE)
    assert len(fuse_detections([found((0, 0, 5, 5, 0.9), (10, 10, 15, 15, 0.4))], max_detections=1)) == 1
    with pytest.raises(ValueError, match="one size"):
        fuse_detections([found(), found(side=8)])
    with pytest.raises(ValueError, match="one size"):
        fuse_detections([])


def test_an_empty_mask_is_no_mask():
    empty = found((0, 0, 10, 10, 0.9))
    empty.masks[:] = False
    assert not fuse_detections([empty, empty]).masks.any()
    assert not fuse_detections([empty, found((0, 0, 10, 10, 0.9))]).masks.any()


CORNERS = st.tuples(st.integers(0, 15), st.integers(0, 15), st.integers(1, 5), st.integers(1, 5))
INSTANCE = st.tuples(CORNERS, st.sampled_from([0.1, 0.25, 0.5, 0.9]), st.integers(1, 2))
MEMBER = st.lists(INSTANCE, max_size=5).map(
    lambda chosen: found(*[(x, y, x + w, y + h, score, kind) for (x, y, w, h), score, kind in chosen])
)


def as_set(detections):
    return sorted(
        (float(score), int(kind), *box.tolist(), mask.tobytes())
        for box, score, kind, mask in zip(
            detections.boxes, detections.scores, detections.class_ids, detections.masks, strict=True
        )
    )


@settings(max_examples=150)
@given(members=st.lists(MEMBER, min_size=1, max_size=4), data=st.data())
def test_order_of_members_and_detections_has_no_effect(members, data):
    shuffled = data.draw(st.permutations(members))
    shuffled = [
        Detections(*(part[order] for part in (each.boxes, each.scores, each.class_ids, each.masks)))
        for each in shuffled
        for order in [np.array(data.draw(st.permutations(range(len(each)))), int)]
    ]
    assert as_set(fuse_detections(members)) == as_set(fuse_detections(shuffled))


@settings(max_examples=150)
@given(member=MEMBER, times=st.integers(1, 4))
def test_copies_of_detections_fuse_to_these_detections(member, times):
    # What a network finds has been through non-maximum suppression: here it is fusion of one that brings that about.
    single = fuse_detections([member])
    for _ in range(5):
        single = fuse_detections([single])
    again = fuse_detections([single] * times)
    np.testing.assert_array_equal(np.sort(again.scores), np.sort(single.scores))
    assert as_set(again) == as_set(single)


@settings(max_examples=100)
@given(members=st.lists(MEMBER, min_size=1, max_size=4))
def test_fused_boxes_and_masks_are_within_those_of_the_members(members):
    fused = fuse_detections(members)
    assert (np.diff(fused.scores) <= 0).all()
    assert len(fused) <= sum(map(len, members))
    for box, mask, kind in zip(fused.boxes, fused.masks, fused.class_ids, strict=True):
        same = np.concatenate([each.masks[each.class_ids == kind] for each in members])
        boxes = np.concatenate([each.boxes[each.class_ids == kind] for each in members])
        assert not (mask & ~same.any(axis=0)).any()
        assert (box[:2] >= boxes[:, :2].min(axis=0) - 1e-4).all() and (box[2:] <= boxes[:, 2:].max(axis=0) + 1e-4).all()
        assert area(box) > 0
