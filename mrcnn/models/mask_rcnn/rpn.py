"""The region proposal network (Ren et al. 2015, section 3): its head and the selection of proposals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from mrcnn.backend import Tensor, ops
from mrcnn.config import ModelConfig
from mrcnn.geometry import boxes as box_ops
from mrcnn.geometry.matching import take_rows
from mrcnn.geometry.nms import non_maximum_suppression
from mrcnn.geometry.roi_align import weighted_rows
from mrcnn.models.layers.convolutions import Convolution3x3

MIN_SIDE = 1.0
"""Smallest side of a proposal in pixels."""


def build_proposal_head(config: ModelConfig, width: int) -> keras.Model:
    """Build one functional model for all levels: (B, H, W, C) to [logits (B, H, W, K), deltas (B, H, W, 4 · K)].

    `width` is the number of channels of the shared convolution.
    """
    count = config.anchors_per_cell
    settings: dict[str, Any] = {
        "kernel_initializer": keras.initializers.RandomNormal(stddev=0.01, seed=0),
        "dtype": "float32",
    }
    features = layers.Input((None, None, config.fpn_channels), name="features")
    x = Convolution3x3(width, activation="relu", name="rpn_conv")(features)
    logits = layers.Conv2D(count, 1, **settings, name="rpn_class")(x)
    deltas = layers.Conv2D(4 * count, 1, **settings, name="rpn_box")(x)
    return keras.Model(features, [logits, deltas], name="proposal_head")


def flatten_levels(outputs: list, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Flatten head outputs of all levels to logits (B, A) and deltas (B, A, 4), in the order of the anchor grid."""
    logits = [ops.reshape(logit, (-1, cells)) for (logit, _), cells in zip(outputs, _level_counts(config), strict=True)]
    deltas = [
        ops.reshape(delta, (-1, cells, 4)) for (_, delta), cells in zip(outputs, _level_counts(config), strict=True)
    ]
    return ops.concatenate(logits, axis=1), ops.concatenate(deltas, axis=1)


def _level_counts(config: ModelConfig) -> list[int]:
    return [rows * columns * config.anchors_per_cell for rows, columns in config.grid_sizes]


def propose(
    logits: Tensor, deltas: Tensor, anchors: Tensor, config: ModelConfig, min_side: float = MIN_SIDE
) -> tuple[Tensor, Tensor]:
    """Select the best regions of all levels after non-maximum suppression within each level. Gradients stop here.

    Args:
        logits: (B, A).
        deltas: (B, A, 4).
        anchors: (A, 4).
        config: architecture.
        min_side: smallest side of a proposal in pixels.

    Returns:
        boxes (B, R, 4), best first, and valid (B, R) bool, with R = min(config.proposals, candidates of all levels).
    """
    logits, deltas = ops.stop_gradient(logits), ops.stop_gradient(deltas)
    per_level = min(config.proposals_per_level, max(_level_counts(config)))
    level_boxes, level_scores = [], []
    start = 0
    for count in _level_counts(config):
        top = min(per_level, count)
        scores, index = ops.top_k(logits[:, start : start + count], top)
        boxes = box_ops.decode(
            take_rows(deltas[:, start : start + count], index), ops.take(anchors[start : start + count], index, axis=0)
        )
        # Padding of levels with fewer anchors lets one suppression serve all levels.
        padding = per_level - top
        level_boxes.append(ops.pad(box_ops.clip(boxes, config.input_shape), ((0, 0), (0, padding), (0, 0))))
        level_scores.append(ops.pad(scores, ((0, 0), (0, padding)), constant_values=-1e9))
        start += count
    boxes, scores = ops.stack(level_boxes, axis=1), ops.stack(level_scores, axis=1)
    sides = boxes[..., 2:] - boxes[..., :2]
    selected = non_maximum_suppression(boxes, ops.all(sides >= min_side, axis=-1), config.proposal_nms_iou)
    total = per_level * len(level_boxes)
    scores = ops.reshape(ops.where(selected, scores, -1e9), (-1, total))
    scores, index = ops.top_k(scores, min(config.proposals, total))
    return take_rows(ops.reshape(boxes, (-1, total, 4)), index), scores > -1e8


def outputs_at(
    head: keras.Model, levels: Sequence[Tensor], index: Tensor, config: ModelConfig
) -> tuple[Tensor, Tensor]:
    """Compute the head's outputs at some anchors, equal to gathering from `flatten_levels` of all its outputs.

    Args:
        head: the model of `build_proposal_head`.
        levels: P2 … P6, (B, H_l, W_l, C).
        index: (B, S) int32 into the anchor grid.
        config: architecture.

    Returns:
        logits (B, S) and deltas (B, S, 4), float32, with gradients to the head and the levels.
    """
    samples, anchors, channels = index.shape[1], config.anchors_per_cell, config.fpn_channels
    rows, inside = _neighborhoods(index // anchors, config)
    table = ops.concatenate(
        [ops.reshape(level, (-1, level.shape[1] * level.shape[2], channels)) for level in levels], 1
    )
    rows = rows + ops.reshape(ops.arange(ops.shape(table)[0], dtype="int32") * table.shape[1], (-1, 1, 1))
    inside = ops.expand_dims(ops.cast(inside, "float32"), -1)
    patches = weighted_rows(ops.reshape(table, (-1, channels)), ops.expand_dims(rows, -1), inside)

    shared = head.get_layer("rpn_conv")
    kernel = ops.reshape(shared.kernel, (9 * channels, shared.filters))
    x = ops.matmul(ops.reshape(patches, (-1, 9 * channels)), ops.cast(kernel, table.dtype))
    x = ops.relu(x + ops.cast(shared.bias, table.dtype))
    x = ops.reshape(x, (-1, 1, 1, shared.filters))
    anchor = ops.reshape(index % anchors, (-1, samples, 1))
    logits = ops.reshape(head.get_layer("rpn_class")(x), (-1, samples, anchors))
    deltas = ops.reshape(head.get_layer("rpn_box")(x), (-1, samples, anchors, 4))
    return (
        ops.squeeze(ops.take_along_axis(logits, anchor, axis=2), -1),
        ops.squeeze(ops.take_along_axis(deltas, ops.expand_dims(anchor, -1), axis=2), 2),
    )


def _neighborhoods(cell: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Return the indices (B, S, 9) int32 of the 3 × 3 cells around each of `cell` (B, S), and which exist.

    Cells are numbered over all levels, row by row. The index of a cell outside its level is 0.
    """
    grids = np.array(config.grid_sizes, np.int32)
    starts = np.concatenate([[0], np.cumsum(grids.prod(1))[:-1]]).astype(np.int32)
    level = ops.sum(ops.cast(ops.expand_dims(cell, -1) >= starts[1:], "int32"), axis=-1)
    rows, columns, start = (
        ops.expand_dims(ops.take(ops.convert_to_tensor(each), level), -1) for each in (*grids.T.copy(), starts)
    )
    within = ops.expand_dims(cell, -1) - start
    y, x = within // columns + np.repeat([-1, 0, 1], 3), within % columns + np.tile([-1, 0, 1], 3)
    inside = ops.logical_and(ops.logical_and(y >= 0, y < rows), ops.logical_and(x >= 0, x < columns))
    return ops.where(inside, start + y * columns + x, 0), inside
