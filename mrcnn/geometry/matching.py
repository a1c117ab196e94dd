"""Which anchor or region belongs to which instance, and which of them are sampled for training."""

from __future__ import annotations

from keras import ops

from mrcnn.backend import xla_jit
from mrcnn.geometry.boxes import pairwise_iou

TIE = 1e-4
"""Overlaps that differ by less are equal."""


def match(candidates, boxes, valid, positive_iou: float, negative_iou: float, *, best_for_each: bool, noise=None):
    """Match candidates to true boxes.

    A candidate is positive when its best IoU is at least `positive_iou`, negative when it is below `negative_iou`, and
    neither in between. With `best_for_each`, the candidates that overlap a true box best are positive whatever the
    IoU, so that every instance has one (Ren et al. 2015, Faster R-CNN, section 3.1.2).

    Args:
        candidates: (…, A, 4); boxes: (B, M, 4); valid: (B, M) bool.
        noise: (B, A) uniform in [0, 1), decides among true boxes that overlap a candidate equally, as those of a core
            and of the ring around it do; None: the first.

    Returns:
        positive (B, A) bool, negative (B, A) bool, matched (B, A) int32: index of the true box of best IoU.
    """
    find = xla_jit(_match, positive_iou=positive_iou, negative_iou=negative_iou, best_for_each=best_for_each)
    return find(candidates, boxes, valid) if noise is None else find(candidates, boxes, valid, noise)


def _match(candidates, boxes, valid, noise=None, *, positive_iou, negative_iou, best_for_each):
    iou = ops.where(ops.expand_dims(valid, -2), pairwise_iou(candidates, boxes), -1.0)
    best = ops.max(iou, axis=-1)
    positive = best >= positive_iou
    if best_for_each:
        best_of_box = ops.max(iou, axis=-2, keepdims=True)
        positive = ops.logical_or(positive, ops.any(ops.logical_and(iou == best_of_box, iou > 0), axis=-1))
    negative = ops.logical_and(best < negative_iou, ops.logical_not(positive))
    if noise is None:
        return positive, negative, ops.cast(ops.argmax(iou, axis=-1), "int32")
    equal = ops.cast(iou >= ops.expand_dims(best, -1) - TIE, "float32")
    place = ops.floor(ops.expand_dims(noise, -1) * ops.sum(equal, axis=-1, keepdims=True))
    chosen = ops.logical_and(equal > 0, ops.cumsum(equal, axis=-1) - 1 == place)
    return positive, negative, ops.cast(ops.argmax(ops.cast(chosen, "int32"), axis=-1), "int32")


def sample(candidates, noise, count: int):
    """A random subset of fixed size.

    Args:
        candidates: (B, A) bool; noise: (B, A) uniform in [0, 1).
        count: slots to fill.

    Returns:
        index (B, min(count, A)) int32 and chosen (the same shape) bool; slots without a candidate are False.
    """
    priority, index = ops.top_k(ops.where(candidates, noise, -1.0), min(count, candidates.shape[-1]))
    return ops.cast(index, "int32"), priority >= 0


def take_rows(values, index):
    """Rows `index` (B, K) of `values` (B, A, …) as (B, K, …)."""
    extra = len(values.shape) - 2
    return ops.take_along_axis(values, ops.reshape(index, (-1, index.shape[1]) + (1,) * extra), axis=1)
