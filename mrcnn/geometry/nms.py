"""Greedy non-maximum suppression of fixed shape, on any backend."""

from __future__ import annotations

from keras import ops

from mrcnn.backend import fused
from mrcnn.geometry.boxes import pairwise_iou


def non_maximum_suppression(boxes, valid, iou_threshold: float):
    """Which boxes greedy suppression keeps.

    The greedy answer is the only fixed point of "kept = valid and no better kept box overlaps it", and it is reached
    from above: after t rounds every box whose chain of suppressors is at most t long has its final answer. So a few
    rounds of a matrix product replace a sequential scan over the boxes.

    Args:
        boxes: (…, K, 4), best score first.
        valid: (…, K) bool; others are neither kept nor do they suppress.
        iou_threshold: a box that overlaps a better kept one by more is dropped.

    Returns:
        (…, K) bool.
    """
    return fused(_suppress, iou_threshold=iou_threshold)(boxes, valid)


def _suppress(boxes, valid, iou_threshold):
    count = boxes.shape[-2]
    better = ops.cast(ops.triu(ops.ones((count, count)), k=1), "bool")
    suppresses = ops.logical_and(pairwise_iou(boxes, boxes) > iou_threshold, better)
    suppresses = ops.cast(ops.logical_and(suppresses, ops.expand_dims(valid, -1)), "float32")
    eligible = ops.cast(valid, "float32")

    def changed(_, now, before):
        return ops.any(ops.not_equal(now, before))

    def refine(step, now, _):
        hits = ops.squeeze(ops.matmul(ops.expand_dims(now, -2), suppresses), -2)
        return step + 1, ops.where(hits > 0.5, 0.0, eligible), now

    start = (0, eligible, ops.full_like(eligible, -1.0))
    _, kept, _ = ops.while_loop(changed, refine, start, maximum_iterations=count + 1)
    return kept > 0.5
