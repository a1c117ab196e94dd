"""RoIAlign and crop-and-resize over a feature pyramid, as gathers and a weighted sum, on any backend.

Source: He et al. 2017 (Mask R-CNN), section 3; level assignment: Lin et al. 2017 (FPN), section 4.2, equation 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mrcnn.backend import Tensor, ops, xla_jit

CANONICAL_LEVEL = 4
FIRST_LEVEL = 2
MAX_COORDINATE = 1e6
"""Largest box coordinate in pixels; no input is as large."""


def assign_levels(boxes: Tensor, levels: int, canonical_size: float) -> Tensor:
    """Return the pyramid level (…) int32, 0 for P2, of boxes (…, 4): k = ⌊4 + log2(√(wh) / canonical_size)⌋.

    Example:
        >>> boxes = np.array([[0, 0, 224, 224], [0, 0, 112, 112], [0, 0, 448, 448], [0, 0, 4, 4]], np.float32)
        >>> np.asarray(assign_levels(boxes, levels=4, canonical_size=224.0)).tolist()
        [2, 1, 3, 0]
    """
    width = ops.maximum(boxes[..., 2] - boxes[..., 0], 0.0)
    height = ops.maximum(boxes[..., 3] - boxes[..., 1], 0.0)
    size = ops.sqrt(ops.maximum(width * height, 1e-6))
    # The small addend assigns a box of exactly the canonical size to P4 despite rounding.
    level = ops.floor(CANONICAL_LEVEL + ops.log2(size / canonical_size) + 1e-6) - FIRST_LEVEL
    return ops.cast(ops.clip(level, 0, levels - 1), "int32")


def _axis_samples(
    low: Tensor, high: Tensor, stride: Tensor, cells: Tensor, output_size: int, sampling: int, aligned: bool
) -> tuple[Tensor, Tensor]:
    """Return the two neighboring cells and their weights for each sample along one axis.

    Args:
        low: (B, R) float32, start of the region in pixels.
        high: (B, R) float32, end of the region in pixels.
        stride: (B, R) float32, pixels per cell of the region's level.
        cells: (B, R) float32, number of cells of the level.
        output_size: bins along the axis.
        sampling: samples per bin.
        aligned: whether regions shorter than a cell keep their length.

    Returns:
        index (B, R, output_size · sampling, 2) float32 and weight of the same shape. Samples up to one cell outside
        the map take the border's value; the weights of samples beyond are 0.
    """
    count = output_size * sampling
    steps = (np.arange(count, dtype=np.float32) + 0.5) / count
    extent = high - low if aligned else ops.maximum(high - low, stride)
    position = (ops.expand_dims(low, -1) + ops.expand_dims(extent, -1) * steps) / ops.expand_dims(stride, -1)
    # Cell i covers pixels [i·stride, (i+1)·stride), so its center is at (i + ½)·stride.
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
    features: Sequence[Tensor],
    boxes: Tensor,
    strides: Sequence[int],
    output_size: int,
    images: Tensor | None = None,
    *,
    canonical_size: float = 224.0,
    sampling: int = 2,
    aligned: bool = True,
) -> Tensor:
    """Pool each region from the pyramid level of its size.

    Args:
        features: list of (B, H_l, W_l, C), finest level first.
        boxes: (B, R, 4) in input pixels.
        strides: pixels per cell of each level.
        output_size: P, bins along a side.
        images: (B', R) int32, the image index of each of boxes (B', R, 4); by default row b belongs to image b.
        canonical_size: side in pixels of a region that is assigned to P4.
        sampling: samples along a side of a bin; their mean is the bin's value.
        aligned: False assumes that the center of a cell is at its corner and enlarges regions to at least one cell,
            as the first implementations did. For weights that were trained that way.

    Returns:
        (B, R, P, P, C) in the dtype of the features.

    Example:
        >>> ramp = np.arange(5, dtype=np.float32)  # the value of a cell is its column
        >>> feature = np.broadcast_to(ramp[None, None, :, None], (1, 5, 5, 1))
        >>> box = np.array([[[1, 1, 3, 3]]], np.float32)  # cells 1 and 2, whose centers are at 1.5 and 2.5
        >>> np.asarray(roi_align([feature], box, [1], 2))[0, 0, :, :, 0].astype(float).round(3).tolist()
        [[1.0, 2.0], [1.0, 2.0]]
    """
    pool = xla_jit(
        _pool,
        strides=tuple(strides),
        output_size=output_size,
        canonical_size=canonical_size,
        sampling=sampling,
        aligned=aligned,
    )
    return pool(*features, boxes, image_indices(boxes) if images is None else images)


def image_indices(boxes: Tensor) -> Tensor:
    """Return the image indices (B, 1) int32 of boxes (B, …): row b belongs to image b.

    Example:
        >>> np.asarray(image_indices(np.zeros((2, 5, 4)))).tolist()
        [[0], [1]]
    """
    return ops.expand_dims(ops.arange(ops.shape(boxes)[0], dtype="int32"), -1)


def _concatenate_levels(features: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return all cells as a table (B, T, C), and the heights, widths and first rows of the levels as int32 arrays."""
    channels = features[0].shape[-1]
    heights = np.array([feature.shape[1] for feature in features], np.int32)
    widths = np.array([feature.shape[2] for feature in features], np.int32)
    offsets = np.concatenate([[0], np.cumsum(heights * widths)[:-1]]).astype(np.int32)
    table = ops.concatenate(
        [ops.reshape(f, (-1, int(h * w), channels)) for f, h, w in zip(features, heights, widths, strict=True)], axis=1
    )
    return table, heights, widths, offsets


def _pool(
    *arrays: Tensor, strides: Sequence[int], output_size: int, canonical_size: float, sampling: int, aligned: bool
) -> Tensor:
    *features, boxes, images = arrays
    # NaN and infinite boxes of a diverged network must not become indices.
    boxes = ops.clip(ops.where(ops.isfinite(boxes), boxes, 0.0), -MAX_COORDINATE, MAX_COORDINATE)
    regions, size = boxes.shape[1], output_size
    table, heights, widths, offsets = _concatenate_levels(features)
    rows, channels = table.shape[1], table.shape[2]
    level = assign_levels(boxes, len(features), canonical_size)

    def of_level(values: Sequence[int] | Tensor) -> Tensor:
        return ops.take(ops.convert_to_tensor(values), level, axis=0)

    stride = of_level(np.asarray(strides, np.float32))
    y, y_weight = _axis_samples(
        boxes[..., 1], boxes[..., 3], stride, of_level(heights.astype(np.float32)), size, sampling, aligned
    )
    x, x_weight = _axis_samples(
        boxes[..., 0], boxes[..., 2], stride, of_level(widths.astype(np.float32)), size, sampling, aligned
    )

    # Each bin has `sampling` samples of two neighboring cells along each axis.
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


def weighted_rows(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted sum Σ_k weight[…, k] · table[index[…, k]] (…, C) in the dtype of the table.

    The sum is float32, which is faster on a CPU for a bfloat16 table too. The forward pass adds one term after the
    other, so that XLA fuses them and no array of all terms exists. The backward pass scatters all terms at once, which
    is four times as fast on a CPU.

    Args:
        table: (T, C); the only argument that receives a gradient.
        index: (…, K) int32.
        weight: (…, K) float32.

    Example:
        >>> table = np.array([[1.0], [10.0], [100.0]], np.float32)
        >>> index, weight = np.array([[0, 2], [1, 1]], np.int32), np.array([[0.5, 0.5], [1.0, 0.0]], np.float32)
        >>> np.asarray(weighted_rows(table, index, weight)).tolist()
        [[50.5], [10.0]]
    """
    return _weighted_rows(table, ops.stop_gradient(index), ops.stop_gradient(weight))


# All arrays are arguments: JAX cannot differentiate a function in a branch of `switch` that closes over others.
@ops.custom_gradient
def _weighted_rows(table: Tensor, index: Tensor, weight: Tensor) -> tuple[Tensor, Callable]:
    total = 0.0
    for tap in range(index.shape[-1]):
        total = total + weight[..., tap, None] * ops.cast(ops.take(table, index[..., tap], axis=0), "float32")

    def gradient(*arguments: Tensor, upstream: Tensor | None = None) -> tuple[Tensor, None, None]:
        upstream = arguments[0] if upstream is None else upstream
        updates = ops.expand_dims(ops.cast(weight, table.dtype), -1) * ops.expand_dims(upstream, -2)
        flat = ops.reshape(updates, (-1, table.shape[-1]))
        return ops.scatter(ops.reshape(index, (-1, 1)), flat, ops.shape(table)), None, None

    return ops.cast(total, table.dtype), gradient


def rounded_levels(boxes: Tensor, levels: int, image_size: int, canonical_size: float) -> Tensor:
    """Return the pyramid level (…) int32, 0 for P2, of boxes (…, 4): 4 + round(log2(√(wh) / canonical_size)).

    Boxes are corner-inclusive: a box of the whole image is `image_size` − 1 wide and counts as `image_size`.

    Example:
        >>> boxes = np.array([[0, 0, 511, 511], [0, 0, 100, 100], [0, 0, 200, 200]], np.float32)
        >>> np.asarray(rounded_levels(boxes, levels=4, image_size=512, canonical_size=224.0)).tolist()
        [3, 1, 2]
    """
    sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.0) * (image_size / (image_size - 1))
    size = ops.sqrt(ops.maximum(sides[..., 0] * sides[..., 1], 1e-6))
    level = CANONICAL_LEVEL + ops.round(ops.log2(size / canonical_size)) - FIRST_LEVEL
    return ops.cast(ops.clip(level, 0, levels - 1), "int32")


def _samples(low: Tensor, high: Tensor, cells: Tensor, image_size: int, count: int) -> tuple[Tensor, Tensor]:
    """Return the two cells around each of `count` samples from `low` to `high` (B, R), and their weights.

    Both are (B, R, count, 2), the cells int32.
    """
    steps = np.arange(count, dtype=np.float32) / max(count - 1, 1)
    last = ops.expand_dims(cells, -1) - 1.0
    position = ops.expand_dims(low, -1) + ops.expand_dims(high - low, -1) * steps
    # Rounding must not move the last sample of a box at the border outside the map.
    position = ops.clip(position * (last / (image_size - 1)), 0.0, last)
    before = ops.minimum(ops.floor(position), ops.maximum(last - 1.0, 0.0))
    index = ops.stack([before, ops.minimum(before + 1.0, last)], axis=-1)
    fraction = position - before
    return ops.cast(index, "int32"), ops.stack([1.0 - fraction, fraction], axis=-1)


def crop_and_resize(
    features: Sequence[Tensor],
    boxes: Tensor,
    image_size: int,
    output_size: int,
    images: Tensor | None = None,
    *,
    canonical_size: float = 224.0,
) -> Tensor:
    """Pool each region with one sample per bin, as `tf.image.crop_and_resize`, from the pyramid level of its size.

    Args:
        features: list of (B, H_l, W_l, C), finest level first.
        boxes: (B, R, 4) in corner-inclusive pixels of the square input. They receive no gradient.
        image_size: side of the input in pixels.
        output_size: P, bins along a side.
        images: (B', R) int32, the image index of each of boxes (B', R, 4); by default row b belongs to image b.
        canonical_size: side in pixels of a region that is assigned to P4.

    Returns:
        (B, R, P, P, C) in the dtype of the features.

    Example:
        >>> ramp = np.arange(5, dtype=np.float32)  # the value of a cell is its column
        >>> feature = np.broadcast_to(ramp[None, None, :, None], (1, 5, 5, 1))
        >>> box = np.array([[[1, 1, 3, 3]]], np.float32)
        >>> np.asarray(crop_and_resize([feature], box, 5, 3))[0, 0, :, :, 0].astype(float).round(3).tolist()
        [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    """
    pool = xla_jit(_pool_corners, image_size=image_size, output_size=output_size, canonical_size=canonical_size)
    return pool(*features, boxes, image_indices(boxes) if images is None else images)


def _pool_corners(*arrays: Tensor, image_size: int, output_size: int, canonical_size: float) -> Tensor:
    *features, boxes, images = arrays
    boxes = ops.stop_gradient(boxes)
    # NaN and infinite boxes of a diverged network must not become indices.
    boxes = ops.where(ops.isfinite(boxes), boxes, 0.0)
    table, heights, widths, offsets = _concatenate_levels(features)
    rows, channels, regions = table.shape[1], table.shape[2], boxes.shape[1]
    level = rounded_levels(boxes, len(features), image_size, canonical_size)

    def of_level(values: Sequence[int] | Tensor) -> Tensor:
        return ops.take(ops.convert_to_tensor(values), level, axis=0)

    y, y_weight = _samples(boxes[..., 1], boxes[..., 3], of_level(heights.astype(np.float32)), image_size, output_size)
    x, x_weight = _samples(boxes[..., 0], boxes[..., 2], of_level(widths.astype(np.float32)), image_size, output_size)
    start = of_level(offsets) + images * rows
    y = y * of_level(widths)[:, :, None, None] + start[:, :, None, None]
    index = y[:, :, :, None, :, None] + x[:, :, None, :, None, :]
    weight = y_weight[:, :, :, None, :, None] * x_weight[:, :, None, :, None, :]
    bins = (-1, regions, output_size, output_size, 4)
    return weighted_rows(ops.reshape(table, (-1, channels)), ops.reshape(index, bins), ops.reshape(weight, bins))
