"""Pooling of regions by one bilinear sample a bin, the corners of a region being the centres of its outer bins.

The convention of TensorFlow's `crop_and_resize`, with which matterport's Mask R-CNN was trained. Boxes are in
corner-inclusive pixels here: x runs from 0, the centre of the first column, to size − 1, the centre of the last.
"""

from __future__ import annotations

import numpy as np
from keras import ops

CANONICAL_LEVEL = 4
FIRST_LEVEL = 2


def rounded_levels(boxes, levels: int, image_size: int, canonical_size: float):
    """Index (…) int32 into the pyramid, 0 being P2, for boxes (…, 4): 4 + log2(√(wh) / canonical_size), rounded.

    A box over the whole image counts as `image_size` pixels wide and high.
    """
    sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.0) * (image_size / (image_size - 1))
    size = ops.sqrt(ops.maximum(sides[..., 0] * sides[..., 1], 1e-6))
    level = CANONICAL_LEVEL + ops.round(ops.log2(size / canonical_size)) - FIRST_LEVEL
    return ops.cast(ops.clip(level, 0, levels - 1), "int32")


def _samples(low, high, cells, image_size: int, count: int):
    """For `count` samples from `low` to `high` (B, R): the cell before and after each and the weight of the latter."""
    steps = np.arange(count, dtype=np.float32) / max(count - 1, 1)
    last = ops.expand_dims(cells, -1) - 1.0
    position = ops.expand_dims(low, -1) + ops.expand_dims(high - low, -1) * steps
    # Rounding must not carry the last sample of a box at the border outside the map.
    position = ops.clip(position * (last / (image_size - 1)), 0.0, last)
    before = ops.minimum(ops.floor(position), ops.maximum(last - 1.0, 0.0))
    after = ops.minimum(before + 1.0, last)
    return ops.cast(before, "int32"), ops.cast(after, "int32"), position - before


def crop_and_resize(features, boxes, image_size: int, output_size: int, *, canonical_size: float = 224.0):
    """Pool each region from the pyramid level that suits its size.

    Args:
        features: list of (B, H_l, W_l, C), finest first.
        boxes: (B, R, 4) in corner-inclusive pixels of the square input.
        image_size: side of the input.
        output_size: P, bins along a side.
        canonical_size: side of the region that belongs to P4.

    Returns:
        (B, R, P, P, C) in the features' dtype. No gradient passes to the boxes.
    """
    boxes = ops.stop_gradient(boxes)
    channels, regions = features[0].shape[-1], boxes.shape[1]
    heights = np.array([feature.shape[1] for feature in features], np.int32)
    widths = np.array([feature.shape[2] for feature in features], np.int32)
    offsets = np.concatenate([[0], np.cumsum(heights * widths)[:-1]]).astype(np.int32)
    rows = int(np.sum(heights * widths))
    table = ops.concatenate([ops.reshape(feature, (-1, int(h * w), channels))
                             for feature, h, w in zip(features, heights, widths, strict=True)], axis=1)  # fmt: skip
    level = rounded_levels(boxes, len(features), image_size, canonical_size)

    def of_level(values):
        return ops.take(ops.convert_to_tensor(values), level, axis=0)

    height, width = of_level(heights.astype(np.float32)), of_level(widths.astype(np.float32))
    top, bottom, down = _samples(boxes[..., 1], boxes[..., 3], height, image_size, output_size)
    left, right, along = _samples(boxes[..., 0], boxes[..., 2], width, image_size, output_size)
    image = ops.arange(ops.shape(boxes)[0], dtype="int32") * rows
    start = of_level(offsets) + ops.expand_dims(image, -1)
    flat = ops.reshape(table, (-1, channels))
    line = ops.expand_dims(of_level(widths), -1)

    pooled = 0.0
    for row, row_weight in ((top, 1.0 - down), (bottom, down)):
        for column, column_weight in ((left, 1.0 - along), (right, along)):
            first = ops.expand_dims(start, -1) + row * line
            index = ops.expand_dims(first, -1) + ops.expand_dims(column, -2)
            weight = ops.expand_dims(row_weight, -1) * ops.expand_dims(column_weight, -2)
            cells = ops.take(flat, ops.reshape(index, (-1,)), axis=0)
            pooled = pooled + cells * ops.cast(ops.reshape(weight, (-1, 1)), cells.dtype)
    return ops.reshape(pooled, (-1, regions, output_size, output_size, channels))
