"""Boxes as (x1, y1, x2, y2) in pixels, x2 and y2 exclusive: measures, coding and clipping. Pure, float32."""

from __future__ import annotations

import math

from keras import ops

MAX_LOG_GROWTH = math.log(1000 / 16)
"""Most that one regression step may grow a side; keeps exp() finite when an untrained head says nonsense.

Source: Detectron (Girshick et al. 2018), `BBOX_XFORM_CLIP`: a side of 16 pixels to 1000."""


def areas(boxes):
    """Areas of boxes (…, 4) as (…); 0 for an empty or inverted box."""
    return ops.maximum(boxes[..., 2] - boxes[..., 0], 0.0) * ops.maximum(boxes[..., 3] - boxes[..., 1], 0.0)


def pairwise_iou(first, second):
    """Intersection over union of every box of `first` (…, N, 4) with every one of `second` (…, M, 4) as (…, N, M).

    Two empty boxes have IoU 0.
    """
    a = ops.expand_dims(first, -2)
    b = ops.expand_dims(second, -3)
    width = ops.minimum(a[..., 2], b[..., 2]) - ops.maximum(a[..., 0], b[..., 0])
    height = ops.minimum(a[..., 3], b[..., 3]) - ops.maximum(a[..., 1], b[..., 1])
    intersection = ops.maximum(width, 0.0) * ops.maximum(height, 0.0)
    union = areas(a) + areas(b) - intersection
    return ops.where(union > 0, intersection / ops.maximum(union, 1e-6), 0.0)


def _centres_and_sides(boxes):
    x1, y1, x2, y2 = (boxes[..., i] for i in range(4))
    # A side below a thousandth of a pixel stands for padding; it must not divide by zero.
    width, height = ops.maximum(x2 - x1, 1e-3), ops.maximum(y2 - y1, 1e-3)
    return x1 + width / 2, y1 + height / 2, width, height


def encode(boxes, references, scale=(1.0, 1.0, 1.0, 1.0)):
    """Regression targets (…, 4) as (dx, dy, dw, dh) that lead from `references` to `boxes`, both (…, 4).

    Source: Girshick et al. 2014 (R-CNN), appendix C; `scale` multiplies each term (Girshick 2015 normalises targets).
    """
    bx, by, bw, bh = _centres_and_sides(boxes)
    rx, ry, rw, rh = _centres_and_sides(references)
    deltas = ops.stack([(bx - rx) / rw, (by - ry) / rh, ops.log(bw / rw), ops.log(bh / rh)], axis=-1)
    return deltas * ops.convert_to_tensor(scale, "float32")


def decode(deltas, references, scale=(1.0, 1.0, 1.0, 1.0)):
    """Boxes (…, 4) that `deltas` (…, 4) make of `references` (…, 4); the inverse of `encode`.

    Never NaN, whatever the deltas: one that is not finite, of a diverged network, changes nothing.
    """
    deltas = ops.where(ops.isfinite(deltas), deltas, 0.0) / ops.convert_to_tensor(scale, "float32")
    rx, ry, rw, rh = _centres_and_sides(references)
    cx, cy = rx + deltas[..., 0] * rw, ry + deltas[..., 1] * rh
    half_width = rw * ops.exp(ops.minimum(deltas[..., 2], MAX_LOG_GROWTH)) / 2
    half_height = rh * ops.exp(ops.minimum(deltas[..., 3], MAX_LOG_GROWTH)) / 2
    return ops.stack([cx - half_width, cy - half_height, cx + half_width, cy + half_height], axis=-1)


def clip(boxes, size: float):
    """Boxes (…, 4) cut to the square image [0, size]²."""
    return ops.clip(boxes, 0.0, float(size))
