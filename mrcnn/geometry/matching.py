"""Match anchors and regions to true boxes and sample them for training."""

from __future__ import annotations

from mrcnn.backend import Tensor, ops, xla_jit
from mrcnn.geometry.boxes import pairwise_iou

TIE = 1e-4
"""IoUs that differ by less count as equal."""


def match(
    candidates: Tensor,
    boxes: Tensor,
    valid: Tensor,
    positive_iou: float,
    negative_iou: float,
    *,
    best_for_each: bool,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Match candidates to true boxes.

    A candidate is positive if its highest IoU is at least `positive_iou`, negative if it is below `negative_iou`, and
    neither in between. With `best_for_each`, the candidates with the highest IoU for a true box are positive at any
    IoU, so that every instance has one (Ren et al. 2015, Faster R-CNN, section 3.1.2).

    Args:
        candidates: (A, 4) or (B, A, 4).
        boxes: (B, M, 4), the true boxes.
        valid: (B, M) bool, False for padding.
        positive_iou: IoU in [0, 1] from which a candidate is positive.
        negative_iou: IoU in [0, 1] below which a candidate is negative.
        best_for_each: make the candidates with the highest IoU for a true box positive.
        noise: (B, A) uniform in [0, 1). It selects one of several true boxes with equal IoUs, as of a core and the
            ring around it. None selects the first.

    Returns:
        positive (B, A) bool, negative (B, A) bool, matched (B, A) int32: the index of the true box with the best IoU.

    Example:
        >>> candidates = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [8, 8, 9, 9]], np.float32)
        >>> boxes, valid = np.array([[[0, 0, 4, 4], [0, 0, 0, 0]]], np.float32), np.array([[True, False]])
        >>> found = match(candidates, boxes, valid, 0.7, 0.3, best_for_each=False)  # IoUs 1, ⅓ and 0
        >>> [np.asarray(each).tolist() for each in found]
        [[[True, False, False]], [[False, False, True]], [[0, 0, 0]]]
    """
    find = xla_jit(_match, positive_iou=positive_iou, negative_iou=negative_iou, best_for_each=best_for_each)
    return find(candidates, boxes, valid) if noise is None else find(candidates, boxes, valid, noise)


def _match(
    candidates: Tensor,
    boxes: Tensor,
    valid: Tensor,
    noise: Tensor | None = None,
    *,
    positive_iou: float,
    negative_iou: float,
    best_for_each: bool,
) -> tuple[Tensor, Tensor, Tensor]:
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


def sample(candidates: Tensor, noise: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Sample a random subset of fixed size.

    Args:
        candidates: (B, A) bool.
        noise: (B, A) uniform in [0, 1); the candidates with the largest values are chosen.
        count: number of slots.

    Returns:
        index (B, min(count, A)) int32 and chosen (B, min(count, A)) bool, False for slots without a candidate.

    Example:
        >>> index, chosen = sample(np.array([[True, False, True]]), np.array([[0.1, 0.9, 0.5]], np.float32), 2)
        >>> np.asarray(index).tolist(), np.asarray(chosen).tolist()
        ([[2, 0]], [[True, True]])
    """
    priority, index = ops.top_k(ops.where(candidates, noise, -1.0), min(count, candidates.shape[-1]))
    return ops.cast(index, "int32"), priority >= 0


def take_rows(values: Tensor, index: Tensor) -> Tensor:
    """Gather rows `index` (B, K) of `values` (B, A, …) as (B, K, …).

    Example:
        >>> np.asarray(take_rows(np.array([[[1, 2], [3, 4], [5, 6]]]), np.array([[2, 0]]))).tolist()
        [[[5, 6], [1, 2]]]
    """
    extra = len(values.shape) - 2
    return ops.take_along_axis(values, ops.reshape(index, (-1, index.shape[1]) + (1,) * extra), axis=1)
