"""Resample masks: crop training targets on the device, paste predictions into the image on the host."""

from __future__ import annotations

import numpy as np

from mrcnn.backend import Tensor, ops
from mrcnn.instance_masks import Crop


def _interpolation(low: Tensor, high: Tensor, box_low: Tensor, box_high: Tensor, points: int, cells: int) -> Tensor:
    """Return bilinear weights (…, points, cells) along one axis.

    They sample a mask of `cells` cells that spans [box_low, box_high] at the centers of `points` bins of [low, high].
    Points outside the mask's box have weights of 0.
    """
    steps = (np.arange(points, dtype=np.float32) + 0.5) / points
    position = ops.expand_dims(low, -1) + ops.expand_dims(high - low, -1) * steps
    side = ops.maximum(box_high - box_low, 1e-3)
    position = (position - ops.expand_dims(box_low, -1)) / ops.expand_dims(side, -1) * cells - 0.5
    inside = ops.logical_and(position >= -0.5, position <= cells - 0.5)
    position = ops.expand_dims(ops.clip(position, 0.0, cells - 1.0), -1)
    weight = ops.maximum(1.0 - ops.abs(position - np.arange(cells, dtype=np.float32)), 0.0)
    return ops.where(ops.expand_dims(inside, -1), weight, 0.0)


def crop_masks(masks: Tensor, boxes: Tensor, regions: Tensor, size: int) -> Tensor:
    """Crop each mask to its region, at the resolution of the mask head.

    Args:
        masks: (B, K, T, T) in [0, 1], each spanning its own box.
        boxes: (B, K, 4), the boxes of the masks.
        regions: (B, K, 4), the regions to crop.
        size: m, side of the result.

    Returns:
        (B, K, m, m) float32, 0 or 1.

    Example:
        >>> mask = np.array([[[[1, 1], [0, 0]]]], np.float32)  # the upper half of a box of 4 × 4 pixels
        >>> box, region = np.array([[[0, 0, 4, 4]]], np.float32), np.array([[[0, 0, 2, 4]]], np.float32)
        >>> np.asarray(crop_masks(mask, box, region, 2)).tolist()
        [[[[1.0, 1.0], [0.0, 0.0]]]]
    """
    cells = masks.shape[-1]
    rows = _interpolation(regions[..., 1], regions[..., 3], boxes[..., 1], boxes[..., 3], size, cells)
    columns = _interpolation(regions[..., 0], regions[..., 2], boxes[..., 0], boxes[..., 2], size, cells)
    cropped = ops.matmul(ops.matmul(rows, masks), ops.swapaxes(columns, -1, -2))
    return ops.cast(cropped >= 0.5, "float32")


def covered_fraction(masks: Tensor, boxes: Tensor) -> Tensor:
    """Return the fraction of each box's area within the image that the mask covers.

    Box corners are rounded outwards to whole pixels. The fraction of an empty box is 0.

    Args:
        masks: (B, H, W), 0 or 1.
        boxes: (A, 4) or (B, A, 4) in pixels.

    Returns:
        (B, A) float32.

    Example:
        >>> mask = np.zeros((1, 4, 4), np.uint8)
        >>> mask[0, :2] = 1  # the two upper rows
        >>> boxes = np.array([[0, 0, 4, 4], [0, 0, 2, 2], [1, 1, 3, 4]], np.float32)
        >>> np.asarray(covered_fraction(mask, boxes)).astype(float).round(3).tolist()
        [[0.5, 1.0, 0.333]]
    """
    height, width = masks.shape[1:]
    # A summed-area table in integers, which are exact.
    sums = ops.cumsum(ops.cumsum(ops.cast(masks, "int32"), axis=1), axis=2)
    sums = ops.reshape(ops.pad(sums, ((0, 0), (1, 0), (1, 0))), (-1, (height + 1) * (width + 1)))
    limits = np.array([width, height], np.float32)
    low = ops.cast(ops.minimum(ops.maximum(ops.floor(boxes[..., :2]), 0.0), limits), "int32")
    high = ops.cast(ops.minimum(ops.maximum(ops.ceil(boxes[..., 2:]), 0.0), limits), "int32")

    def at(x: Tensor, y: Tensor) -> Tensor:
        index = y * (width + 1) + x
        index = index if len(index.shape) == 2 else ops.expand_dims(index, 0)
        return ops.take_along_axis(sums, ops.broadcast_to(index, (ops.shape(sums)[0], index.shape[1])), axis=1)

    (x1, y1), (x2, y2) = ((corner[..., 0], corner[..., 1]) for corner in (low, high))
    covered = ops.cast(at(x2, y2) - at(x1, y2) - at(x2, y1) + at(x1, y1), "float32")
    area = ops.cast(ops.maximum(x2 - x1, 0) * ops.maximum(y2 - y1, 0), "float32")
    return ops.where(area > 0, covered / ops.maximum(area, 1.0), 0.0)


def _host_interpolation(low: float, high: float, start: int, stop: int, cells: int) -> np.ndarray:
    """Return bilinear weights (stop − start, cells) at the centers of the pixels of a mask that spans [low, high]."""
    position = (np.arange(start, stop) + 0.5 - low) / max(high - low, 1e-3) * cells - 0.5
    position = np.clip(position, 0, cells - 1)[:, None]
    return np.maximum(1 - np.abs(position - np.arange(cells)), 0).astype(np.float32)


def paste_crop(mask: np.ndarray, box: np.ndarray, height: int, width: int, threshold: float = 0.5) -> Crop:
    """Resample mask probabilities (m, m) that span `box` (4,) to the pixels of an image of `height` × `width`.

    A pixel belongs to the mask if its center lies in the box and its interpolated probability is at least
    `threshold`. A box narrower than a pixel covers the pixel at its center line, so that no instance vanishes.

    Example:
        >>> top, left, pixels = paste_crop(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([1.0, 2.0, 5.0, 4.0]), 8, 8)
        >>> top, left, pixels.tolist()
        (2, 1, [[True, True, False, False], [True, True, False, False]])
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    left, right = _pixels(x1, x2, width)
    top, bottom = _pixels(y1, y2, height)
    rows = _host_interpolation(y1, y2, top, bottom, len(mask))
    columns = _host_interpolation(x1, x2, left, right, len(mask))
    return Crop(top, left, rows @ mask.astype(np.float32) @ columns.T >= threshold)


def _pixels(low: float, high: float, limit: int) -> tuple[int, int]:
    """Return the half-open range of pixels whose centers lie in [low, high], at least one pixel within the image."""
    first, last = int(np.ceil(low - 0.5)), int(np.floor(high - 0.5)) + 1
    if last <= first:
        first = int(np.floor((low + high) / 2))
        last = first + 1
    first = min(max(first, 0), limit - 1)
    return first, min(max(last, first + 1), limit)
