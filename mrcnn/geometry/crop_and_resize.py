"""Pooling of regions by one bilinear sample a bin, the corners of a region being the centres of its outer bins.

The convention of TensorFlow's `crop_and_resize`, with which matterport's Mask R-CNN was trained. Boxes are in
corner-inclusive pixels here: x runs from 0, the centre of the first column, to size − 1, the centre of the last.
"""

from __future__ import annotations

import numpy as np
from keras import ops

from mrcnn.backend import fused
from mrcnn.geometry.roi_align import images_of, weighted_rows

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
    """For `count` samples from `low` to `high` (B, R): the two cells around each, (B, R, count, 2) int32, and their
    weights."""
    steps = np.arange(count, dtype=np.float32) / max(count - 1, 1)
    last = ops.expand_dims(cells, -1) - 1.0
    position = ops.expand_dims(low, -1) + ops.expand_dims(high - low, -1) * steps
    # Rounding must not carry the last sample of a box at the border outside the map.
    position = ops.clip(position * (last / (image_size - 1)), 0.0, last)
    before = ops.minimum(ops.floor(position), ops.maximum(last - 1.0, 0.0))
    index = ops.stack([before, ops.minimum(before + 1.0, last)], axis=-1)
    fraction = position - before
    return ops.cast(index, "int32"), ops.stack([1.0 - fraction, fraction], axis=-1)


def crop_and_resize(features, boxes, image_size: int, output_size: int, images=None, *, canonical_size: float = 224.0):
    """Pool each region from the pyramid level that suits its size.

    Args:
        features: list of (B, H_l, W_l, C), finest first.
        boxes: (B, R, 4) in corner-inclusive pixels of the square input.
        image_size: side of the input.
        output_size: P, bins along a side.
        images: (B', R) int32, the image of each of boxes (B', R, 4); by default those of row b are of image b.
        canonical_size: side of the region that belongs to P4.

    Returns:
        (B, R, P, P, C) in the features' dtype. No gradient passes to the boxes.
    """
    pool = fused(_pool, image_size=image_size, output_size=output_size, canonical_size=canonical_size)
    return pool(*features, boxes, images_of(boxes) if images is None else images)


def _pool(*arrays, image_size, output_size, canonical_size):
    *features, boxes, images = arrays
    boxes = ops.stop_gradient(boxes)
    # A diverged network's boxes must not become indices.
    boxes = ops.where(ops.isfinite(boxes), boxes, 0.0)
    channels, regions = features[0].shape[-1], boxes.shape[1]
    heights = np.array([feature.shape[1] for feature in features], np.int32)
    widths = np.array([feature.shape[2] for feature in features], np.int32)
    offsets = np.concatenate([[0], np.cumsum(heights * widths)[:-1]]).astype(np.int32)
    table = ops.concatenate(
        [ops.reshape(f, (-1, int(h * w), channels)) for f, h, w in zip(features, heights, widths, strict=True)], axis=1
    )
    level = rounded_levels(boxes, len(features), image_size, canonical_size)

    def of_level(values):
        return ops.take(ops.convert_to_tensor(values), level, axis=0)

    y, y_weight = _samples(boxes[..., 1], boxes[..., 3], of_level(heights.astype(np.float32)), image_size, output_size)
    x, x_weight = _samples(boxes[..., 0], boxes[..., 2], of_level(widths.astype(np.float32)), image_size, output_size)
    rows = int((heights * widths).sum())
    start = of_level(offsets) + images * rows
    y = y * of_level(widths)[:, :, None, None] + start[:, :, None, None]
    index = y[:, :, :, None, :, None] + x[:, :, None, :, None, :]
    weight = y_weight[:, :, :, None, :, None] * x_weight[:, :, None, :, None, :]
    bins = (-1, regions, output_size, output_size, 4)
    return weighted_rows(ops.reshape(table, (-1, channels)), ops.reshape(index, bins), ops.reshape(weight, bins))
