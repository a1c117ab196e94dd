"""The proposal head once more for the sampled anchors alone, so that only they cost a backward pass.

A few hundred anchors an image are sampled for the loss (Ren et al. 2015, section 3.1.3); for every other cell of the
pyramid the gradient is zero. The head over whole levels then needs no gradient, and the sampled cells' outputs, made
again from their 3 × 3 neighbourhoods, carry the same one: at 512 × 512 that saves an eighth of a training step's work.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from mrcnn.config import ModelConfig
from mrcnn.geometry.roi_align import weighted_rows


def outputs_at(head: keras.Model, levels: list, index, config: ModelConfig):
    """What `flatten_levels` of the head's outputs holds at some anchors.

    Args:
        head: of `build_proposal_head`.
        levels: P2 … P6, (B, H_l, W_l, C).
        index: (B, S) int32 into the anchor grid.

    Returns:
        logits (B, S) and deltas (B, S, 4), float32; gradients pass to the head and the levels.
    """
    samples, anchors, channels = index.shape[1], config.anchors_per_cell, config.fpn_channels
    rows, inside = _neighbourhoods(index // anchors, config)
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


def _neighbourhoods(cell, config: ModelConfig):
    """The 3 × 3 cells around each of `cell` (B, S), counted over all levels, row by row: their numbers (B, S, 9) int32
    and which of them lie inside the level (others: 0)."""
    sides = np.array(config.grid_sizes, np.int32)
    starts = np.concatenate([[0], np.cumsum(sides**2)[:-1]]).astype(np.int32)
    level = ops.sum(ops.cast(ops.expand_dims(cell, -1) >= starts[1:], "int32"), axis=-1)
    side, start = (ops.expand_dims(ops.take(ops.convert_to_tensor(each), level), -1) for each in (sides, starts))
    within = ops.expand_dims(cell, -1) - start
    y, x = within // side + np.repeat([-1, 0, 1], 3), within % side + np.tile([-1, 0, 1], 3)
    inside = ops.logical_and(ops.logical_and(y >= 0, y < side), ops.logical_and(x >= 0, x < side))
    return ops.where(inside, start + y * side + x, 0), inside
