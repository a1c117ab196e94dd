"""Greedy non-maximum suppression of fixed shape, on any backend."""

from __future__ import annotations

from keras import ops

from mrcnn.backend import xla_jit
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
    return xla_jit(_suppress, iou_threshold=iou_threshold)(boxes, valid)


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


def tiled_suppression(boxes, valid, iou_threshold: float, tile: int = 1000):
    """What `non_maximum_suppression` returns, for boxes (B, K, 4), best first, and valid (B, K), `tile` at a time.

    Boxes of a tile first fall to those kept in the tiles before, then are settled among themselves.
    """
    done = []
    for start in range(0, boxes.shape[1], tile):
        here, left = boxes[:, start : start + tile], valid[:, start : start + tile]
        for better, kept in done:
            overlaps = ops.logical_and(pairwise_iou(better, here) > iou_threshold, ops.expand_dims(kept, -1))
            left = ops.logical_and(left, ops.logical_not(ops.any(overlaps, axis=1)))
        done.append((here, non_maximum_suppression(here, left, iou_threshold)))
    return ops.concatenate([kept for _, kept in done], axis=1)
