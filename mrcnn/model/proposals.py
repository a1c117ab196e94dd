"""The region proposal network (Ren et al. 2015, section 3): its head, and boxes out of its scores."""

from __future__ import annotations

import keras
from keras import layers, ops

from mrcnn.config import ModelConfig
from mrcnn.geometry import boxes as box_ops
from mrcnn.geometry.matching import take_rows
from mrcnn.geometry.nms import non_maximum_suppression
from mrcnn.model.convolution import Convolution3x3

MIN_SIDE = 1.0
"""Proposals thinner than a pixel are dropped: nothing can be pooled from them."""


def build_proposal_head(config: ModelConfig, width: int) -> keras.Model:
    """One functional model for every level: (B, H, W, C) to [objectness logits (B, H, W, K), deltas (B, H, W, 4K)].

    `width`: channels of the convolution that both share.
    """
    count = config.anchors_per_cell
    start = keras.initializers.RandomNormal(stddev=0.01, seed=0)
    features = layers.Input((None, None, config.fpn_channels), name="features")
    x = Convolution3x3(width, activation="relu", name="rpn_conv")(features)
    logits = layers.Conv2D(count, 1, kernel_initializer=start, dtype="float32", name="rpn_class")(x)
    deltas = layers.Conv2D(4 * count, 1, kernel_initializer=start, dtype="float32", name="rpn_box")(x)
    return keras.Model(features, [logits, deltas], name="proposal_head")


def flatten_levels(outputs: list, config: ModelConfig):
    """Head outputs of all levels as logits (B, A) and deltas (B, A, 4), in the order of the anchor grid."""
    logits = [ops.reshape(logit, (-1, cells)) for (logit, _), cells in zip(outputs, _level_counts(config), strict=True)]
    deltas = [
        ops.reshape(delta, (-1, cells, 4)) for (_, delta), cells in zip(outputs, _level_counts(config), strict=True)
    ]
    return ops.concatenate(logits, axis=1), ops.concatenate(deltas, axis=1)


def _level_counts(config: ModelConfig) -> list[int]:
    return [cells * cells * config.anchors_per_cell for cells in config.grid_sizes]


def propose(logits, deltas, anchors, config: ModelConfig, min_side: float = MIN_SIDE):
    """The best regions of all levels after non-maximum suppression within each.

    Args:
        logits: (B, A); deltas: (B, A, 4); anchors: (A, 4).
        min_side: pixels below which a box is dropped.

    Returns:
        boxes (B, R, 4), best first, and valid (B, R) bool, R = min(config.proposals, what the levels hold). No
        gradient passes.
    """
    logits, deltas = ops.stop_gradient(logits), ops.stop_gradient(deltas)
    per_level = min(config.proposals_per_level, max(_level_counts(config)))
    level_boxes, level_scores = [], []
    start = 0
    for count in _level_counts(config):
        keep = min(per_level, count)
        scores, index = ops.top_k(logits[:, start : start + count], keep)
        boxes = box_ops.decode(
            take_rows(deltas[:, start : start + count], index), ops.take(anchors[start : start + count], index, axis=0)
        )
        # Levels with fewer anchors are padded, so that one suppression serves all of them.
        padding = per_level - keep
        level_boxes.append(ops.pad(box_ops.clip(boxes, config.image_size), ((0, 0), (0, padding), (0, 0))))
        level_scores.append(ops.pad(scores, ((0, 0), (0, padding)), constant_values=-1e9))
        start += count
    boxes, scores = ops.stack(level_boxes, axis=1), ops.stack(level_scores, axis=1)
    sides = boxes[..., 2:] - boxes[..., :2]
    kept = non_maximum_suppression(boxes, ops.all(sides >= min_side, axis=-1), config.proposal_nms_iou)
    total = per_level * len(level_boxes)
    scores = ops.reshape(ops.where(kept, scores, -1e9), (-1, total))
    scores, index = ops.top_k(scores, min(config.proposals, total))
    return take_rows(ops.reshape(boxes, (-1, total, 4)), index), scores > -1e8
