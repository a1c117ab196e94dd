"""Measure, encode, decode and clip boxes (x1, y1, x2, y2) float32 in pixels, x2 and y2 exclusive."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mrcnn.backend import Tensor, ops

MAX_LOG_GROWTH = math.log(1000 / 16)
"""Largest dw and dh of a decoded box; it keeps exp() finite for the output of an untrained head.

Source: Detectron (Girshick et al. 2018), `BBOX_XFORM_CLIP`: a side grows from 16 to 1000 pixels at most."""


def areas(boxes: Tensor) -> Tensor:
    """Return the areas (…) of boxes (…, 4); 0 for an empty or inverted box.

    Example:
        >>> np.asarray(areas(np.array([[1.0, 1, 4, 3], [2, 2, 1, 5]]))).tolist()
        [6.0, 0.0]
    """
    return ops.maximum(boxes[..., 2] - boxes[..., 0], 0.0) * ops.maximum(boxes[..., 3] - boxes[..., 1], 0.0)


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection over union (…, N, M) of boxes `first` (…, N, 4) and `second` (…, M, 4).

    The IoU of two empty boxes is 0.

    Example:
        >>> first = np.array([[0, 0, 2, 2]], np.float32)
        >>> second = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]], np.float32)
        >>> np.asarray(pairwise_iou(first, second)).astype(float).round(3).tolist()  # 2 of 6 pixels are shared
        [[1.0, 0.333, 0.0]]
    """
    a = ops.expand_dims(first, -2)
    b = ops.expand_dims(second, -3)
    width = ops.minimum(a[..., 2], b[..., 2]) - ops.maximum(a[..., 0], b[..., 0])
    height = ops.minimum(a[..., 3], b[..., 3]) - ops.maximum(a[..., 1], b[..., 1])
    intersection = ops.maximum(width, 0.0) * ops.maximum(height, 0.0)
    union = areas(a) + areas(b) - intersection
    return ops.where(union > 0, intersection / ops.maximum(union, 1e-6), 0.0)


def _centers_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = (boxes[..., i] for i in range(4))
    # Padding has sides of 0, which must not be divisors.
    width, height = ops.maximum(x2 - x1, 1e-3), ops.maximum(y2 - y1, 1e-3)
    return x1 + width / 2, y1 + height / 2, width, height


def encode(boxes: Tensor, references: Tensor, scale: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Encode boxes (…, 4) as regression targets (dx, dy, dw, dh) (…, 4) relative to `references` (…, 4).

    Source: Girshick et al. 2014 (R-CNN), appendix C. `scale` multiplies each term (normalization of the targets,
    Girshick 2015).

    Example:
        >>> box, reference = np.array([[2, 4, 6, 8]], np.float32), np.array([[0, 0, 4, 8]], np.float32)
        >>> np.asarray(encode(box, reference)).astype(float).round(3).tolist()  # (2/4, 2/8, log 1, log ½)
        [[0.5, 0.25, 0.0, -0.693]]
    """
    bx, by, bw, bh = _centers_and_sides(boxes)
    rx, ry, rw, rh = _centers_and_sides(references)
    deltas = ops.stack([(bx - rx) / rw, (by - ry) / rh, ops.log(bw / rw), ops.log(bh / rh)], axis=-1)
    return deltas * ops.convert_to_tensor(scale, "float32")


def decode(deltas: Tensor, references: Tensor, scale: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Decode `deltas` (…, 4) relative to `references` (…, 4) to boxes (…, 4); the inverse of `encode`.

    Deltas that are NaN or infinite, as from a diverged network, count as 0, so the boxes are never NaN.

    Example:
        >>> deltas = np.array([[0.5, 0.25, 0.0, np.log(0.5)]], np.float32)
        >>> np.asarray(decode(deltas, np.array([[0, 0, 4, 8]], np.float32))).astype(float).round(3).tolist()
        [[2.0, 4.0, 6.0, 8.0]]
    """
    deltas = ops.where(ops.isfinite(deltas), deltas, 0.0) / ops.convert_to_tensor(scale, "float32")
    rx, ry, rw, rh = _centers_and_sides(references)
    cx, cy = rx + deltas[..., 0] * rw, ry + deltas[..., 1] * rh
    half_width = rw * ops.exp(ops.minimum(deltas[..., 2], MAX_LOG_GROWTH)) / 2
    half_height = rh * ops.exp(ops.minimum(deltas[..., 3], MAX_LOG_GROWTH)) / 2
    return ops.stack([cx - half_width, cy - half_height, cx + half_width, cy + half_height], axis=-1)


def clip(boxes: Tensor, shape: tuple[float, float]) -> Tensor:
    """Clip boxes (…, 4) to an image of the shape (height, width).

    Example:
        >>> np.asarray(clip(np.array([[-2.0, 1.0, 9.0, 7.0]]), (6, 8))).tolist()
        [[0.0, 1.0, 8.0, 6.0]]
    """
    height, width = shape
    return ops.minimum(ops.maximum(boxes, 0.0), np.array([width, height] * 2, np.float32))
