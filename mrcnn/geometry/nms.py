"""Greedy non-maximum suppression with fixed shapes, on any backend."""

from __future__ import annotations

from mrcnn.backend import Tensor, ops, xla_jit
from mrcnn.geometry.boxes import pairwise_iou


def non_maximum_suppression(boxes: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Select boxes by greedy non-maximum suppression.

    The greedy result is the only fixed point of "selected = valid and no better selected box overlaps it". Iteration
    from "all valid boxes" reaches it: after t rounds the state of every box is final whose chain of suppressors has at
    most t links. So a few matrix products replace a sequential scan over the boxes.

    Args:
        boxes: (…, K, 4), best score first.
        valid: (…, K) bool; invalid boxes are not selected and suppress nothing.
        iou_threshold: a box with a higher IoU with a better selected box is suppressed.

    Returns:
        selected (…, K) bool.

    Example:
        >>> boxes = np.array([[0, 0, 4, 4], [1, 0, 5, 4], [2, 0, 6, 4]], np.float32)  # IoUs 0.6, 0.6 and ⅓
        >>> np.asarray(non_maximum_suppression(boxes, np.array([True, True, True]), 0.5)).tolist()
        [True, False, True]
    """
    return xla_jit(_suppress, iou_threshold=iou_threshold)(boxes, valid)


def _suppress(boxes: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    count = boxes.shape[-2]
    better = ops.cast(ops.triu(ops.ones((count, count)), k=1), "bool")
    suppresses = ops.cast(ops.logical_and(pairwise_iou(boxes, boxes) > iou_threshold, better), "float32")
    candidates = ops.cast(valid, "float32")  # what is not valid is never selected, so it suppresses nothing

    def changed(_: Tensor, now: Tensor, before: Tensor) -> Tensor:
        return ops.any(ops.not_equal(now, before))

    def refine(step: Tensor, now: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hits = ops.squeeze(ops.matmul(ops.expand_dims(now, -2), suppresses), -2)
        return step + 1, ops.where(hits > 0.5, 0.0, candidates), now

    start = (0, candidates, ops.full_like(candidates, -1.0))
    _, kept, _ = ops.while_loop(changed, refine, start, maximum_iterations=count + 1)
    return kept > 0.5


def tiled_suppression(boxes: Tensor, valid: Tensor, iou_threshold: float, tile: int = 1000) -> Tensor:
    """Apply `non_maximum_suppression` to boxes (B, K, 4), best first, and valid (B, K) in tiles, to save memory.

    Selected boxes of the earlier tiles suppress boxes of a tile first; then the tile suppresses within itself.

    Example:
        >>> boxes = np.array([[[0, 0, 4, 4], [1, 0, 5, 4], [2, 0, 6, 4]]], np.float32)
        >>> np.asarray(tiled_suppression(boxes, np.array([[True, True, True]]), 0.5, tile=1)).tolist()
        [[True, False, True]]
    """
    done = []
    for start in range(0, boxes.shape[1], tile):
        current, remaining = boxes[:, start : start + tile], valid[:, start : start + tile]
        for better, kept in done:
            overlaps = ops.logical_and(pairwise_iou(better, current) > iou_threshold, ops.expand_dims(kept, -1))
            remaining = ops.logical_and(remaining, ops.logical_not(ops.any(overlaps, axis=1)))
        done.append((current, non_maximum_suppression(current, remaining, iou_threshold)))
    return ops.concatenate([kept for _, kept in done], axis=1)
