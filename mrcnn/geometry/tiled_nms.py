"""Greedy non-maximum suppression over thousands of boxes without a matrix of all pairs."""

from __future__ import annotations

from keras import ops

from mrcnn.geometry.boxes import pairwise_iou
from mrcnn.geometry.nms import non_maximum_suppression


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
