"""RoIAlign over a feature pyramid, as gathers and one product, on any backend.

Source: He et al. 2017 (Mask R-CNN), section 3; level assignment: Lin et al. 2017 (FPN), section 4.2, equation 1.
"""

from __future__ import annotations

import numpy as np
from keras import ops

from mrcnn.backend import xla_jit

CANONICAL_LEVEL = 4
FIRST_LEVEL = 2
FARTHEST = 1e6
"""Pixels from the corner of the image beyond which a box's end is not told apart: no input is as large."""


def assign_levels(boxes, levels: int, canonical_size: float):
    """Index (…) int32 into the pyramid, 0 being P2, for boxes (…, 4): k = ⌊4 + log2(√(wh) / canonical_size)⌋."""
    width = ops.maximum(boxes[..., 2] - boxes[..., 0], 0.0)
    height = ops.maximum(boxes[..., 3] - boxes[..., 1], 0.0)
    size = ops.sqrt(ops.maximum(width * height, 1e-6))
    # The small addend keeps a box of exactly the canonical size on its own level whatever the rounding.
    level = ops.floor(CANONICAL_LEVEL + ops.log2(size / canonical_size) + 1e-6) - FIRST_LEVEL
    return ops.cast(ops.clip(level, 0, levels - 1), "int32")


def _axis_samples(low, high, stride, cells, output_size: int, sampling: int, aligned: bool):
    """Two neighbouring cells and their weights for each sample along one axis.

    Args:
        low, high, stride, cells: (B, R) float32: extent of the region in pixels, of its level's cells, and their count.

    Returns:
        index (B, R, output_size · sampling, 2) float32 and weight of the same shape. Samples up to one cell outside
        the map take the border's value; those further out weigh nothing.
    """
    count = output_size * sampling
    steps = (np.arange(count, dtype=np.float32) + 0.5) / count
    extent = high - low if aligned else ops.maximum(high - low, stride)
    position = (ops.expand_dims(low, -1) + ops.expand_dims(extent, -1) * steps) / ops.expand_dims(stride, -1)
    # Cell i covers pixels [i·stride, (i+1)·stride): its centre is at (i + ½)·stride, hence the half.
    position = position - 0.5 if aligned else position
    last = ops.expand_dims(cells, -1) - 1.0
    inside = ops.logical_and(position > -1.0, position < last + 1.0)
    position = ops.clip(position, 0.0, last)
    first = ops.minimum(ops.floor(position), ops.maximum(last - 1.0, 0.0))
    fraction = position - first
    weight = ops.stack([1.0 - fraction, fraction], axis=-1)
    index = ops.stack([first, ops.minimum(first + 1.0, last)], axis=-1)
    return index, ops.where(ops.expand_dims(inside, -1), weight, 0.0)


def roi_align(
    features,
    boxes,
    strides,
    output_size: int,
    images=None,
    *,
    canonical_size: float = 224.0,
    sampling: int = 2,
    aligned: bool = True,
):
    """Pool each region from the pyramid level that suits its size.

    Args:
        features: list of (B, H_l, W_l, C), finest first.
        boxes: (B, R, 4) in input pixels.
        strides: pixels per cell of each level.
        output_size: P, bins along a side.
        images: (B', R) int32, the image of each of boxes (B', R, 4); by default those of row b are of image b.
        canonical_size: side of the region that belongs to P4.
        sampling: samples along a side of a bin; their mean is the bin's value.
        aligned: False takes a cell's centre to be at its corner and no region to be smaller than a cell, as the first
            implementations did, for weights that were trained so.

    Returns:
        (B, R, P, P, C) in the features' dtype.
    """
    pool = xla_jit(
        _pool,
        strides=tuple(strides),
        output_size=output_size,
        canonical_size=canonical_size,
        sampling=sampling,
        aligned=aligned,
    )
    return pool(*features, boxes, images_of(boxes) if images is None else images)


def images_of(boxes):
    """(B, 1) int32 for boxes (B, …): the regions of row b are of image b."""
    return ops.expand_dims(ops.arange(ops.shape(boxes)[0], dtype="int32"), -1)


def _pool(*arrays, strides, output_size, canonical_size, sampling, aligned):
    *features, boxes, images = arrays
    # A diverged network's boxes must not become indices.
    boxes = ops.clip(ops.where(ops.isfinite(boxes), boxes, 0.0), -FARTHEST, FARTHEST)
    channels = features[0].shape[-1]
    regions, size = boxes.shape[1], output_size
    heights = np.array([feature.shape[1] for feature in features], np.int32)
    widths = np.array([feature.shape[2] for feature in features], np.int32)
    rows = int((heights * widths).sum())
    offsets = np.concatenate([[0], np.cumsum(heights * widths)[:-1]]).astype(np.int32)
    table = ops.concatenate(
        [ops.reshape(f, (-1, int(h * w), channels)) for f, h, w in zip(features, heights, widths, strict=True)], axis=1
    )
    level = assign_levels(boxes, len(features), canonical_size)

    def of_level(values):
        return ops.take(ops.convert_to_tensor(values), level, axis=0)

    stride = of_level(np.asarray(strides, np.float32))
    y, y_weight = _axis_samples(
        boxes[..., 1], boxes[..., 3], stride, of_level(heights.astype(np.float32)), size, sampling, aligned
    )
    x, x_weight = _axis_samples(
        boxes[..., 0], boxes[..., 2], stride, of_level(widths.astype(np.float32)), size, sampling, aligned
    )

    # Taps of a bin: `sampling` samples of two neighbours along each axis.
    taps = 2 * sampling
    shape = (-1, regions, size, taps)
    x, x_weight = ops.reshape(ops.cast(x, "int32"), shape), ops.reshape(x_weight, shape)
    y, y_weight = ops.reshape(ops.cast(y, "int32"), shape), ops.reshape(y_weight / float(sampling**2), shape)
    start = of_level(offsets) + images * rows
    y = y * of_level(widths)[:, :, None, None] + start[:, :, None, None]
    index = y[:, :, :, None, :, None] + x[:, :, None, :, None, :]
    weight = y_weight[:, :, :, None, :, None] * x_weight[:, :, None, :, None, :]
    bins = (-1, regions, size, size, taps * taps)
    return weighted_rows(ops.reshape(table, (-1, channels)), ops.reshape(index, bins), ops.reshape(weight, bins))


def weighted_rows(table, index, weight):
    """Σ_t weight[…, t] · table[index[…, t]]: table (T, C), index and float32 weight (…, K) → (…, C) as the table's.

    The sum is float32, which is quicker on a CPU of a bfloat16 table too. Forward, one tap after another: fused, no
    array of all taps ever exists. Backward, all taps in one scatter: that is the faster order there, by a factor of
    four on a CPU.
    """
    index, weight = ops.stop_gradient(index), ops.stop_gradient(weight)

    @ops.custom_gradient
    def pool(table):
        total = 0.0
        for tap in range(index.shape[-1]):
            total = total + weight[..., tap, None] * ops.cast(ops.take(table, index[..., tap], axis=0), "float32")

        def gradient(*arguments, upstream=None):
            upstream = arguments[0] if upstream is None else upstream
            updates = ops.expand_dims(ops.cast(weight, table.dtype), -1) * ops.expand_dims(upstream, -2)
            flat = ops.reshape(updates, (-1, table.shape[-1]))
            return ops.scatter(ops.reshape(index, (-1, 1)), flat, ops.shape(table))

        return ops.cast(total, table.dtype), gradient

    return pool(table)


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
    pool = xla_jit(_pool_corners, image_size=image_size, output_size=output_size, canonical_size=canonical_size)
    return pool(*features, boxes, images_of(boxes) if images is None else images)


def _pool_corners(*arrays, image_size, output_size, canonical_size):
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
