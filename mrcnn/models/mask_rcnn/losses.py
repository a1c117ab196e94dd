"""The five losses of Mask R-CNN. Each is a scalar, and finite if nothing is sampled.

The divisor is the number of samples of the whole batch, so the losses of several replicas add up to its loss.
"""

from __future__ import annotations

from collections.abc import Sequence

from mrcnn.backend import Tensor, ops
from mrcnn.models.training.data_parallel import all_reduce

LOSSES = ("rpn_class", "rpn_box", "head_class", "head_box", "head_mask")


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return Σ values · weights / Σ weights, or 0 if all weights are 0."""
    return ops.sum(values * weights) / ops.maximum(all_reduce(ops.sum(weights)), 1.0)


def smooth_l1(difference: Tensor, beta: float) -> Tensor:
    """Return the smooth L1 loss, quadratic below `beta` (Girshick 2015, equation 3)."""
    size = ops.abs(difference)
    return ops.where(size < beta, 0.5 * ops.square(size) / beta, size - 0.5 * beta)


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the element-wise binary cross-entropy of logits, max(x, 0) − x·z + log(1 + e^−|x|), without overflow."""
    return ops.maximum(logits, 0.0) - logits * targets + ops.log1p(ops.exp(-ops.abs(logits)))


def objectness(logits: Tensor, positive: Tensor, used: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of the sampled anchors; all arguments are (B, S)."""
    return weighted_mean(binary_cross_entropy(logits, positive), used)


def box_regression(deltas: Tensor, targets: Tensor, positive: Tensor, used: Tensor, beta: float) -> Tensor:
    """Return the sum of the smooth L1 losses of the positives over the number of samples.

    So the weight of the loss does not depend on the number of positives, as in torchvision and detectron2.

    Args:
        deltas: (B, S, 4), outputs.
        targets: (B, S, 4).
        positive: (B, S), 1 for positives.
        used: (B, U), 1 for samples.
        beta: limit of the quadratic part.
    """
    loss = ops.sum(smooth_l1(deltas - targets, beta), axis=-1)
    return ops.sum(loss * positive) / ops.maximum(all_reduce(ops.sum(used)), 1.0)


def classification(
    logits: Tensor,
    class_ids: Tensor,
    used: Tensor,
    class_weights: Sequence[float] | None = None,
    focal_gamma: float = 0.0,
) -> Tensor:
    """Return the mean softmax cross-entropy of the sampled regions, weighted by class if configured.

    Args:
        logits: (B, R, K + 1).
        class_ids: (B, R), 0 for background.
        used: (B, R), 1 for samples.
        class_weights: (K + 1,) or None.
        focal_gamma: exponent of the focal loss (Lin et al. 2017, RetinaNet, equation 5); 0 is cross-entropy.
    """
    log_probability = ops.log_softmax(logits, axis=-1)
    truth = ops.one_hot(class_ids, logits.shape[-1], dtype="float32")
    log_truth = ops.sum(log_probability * truth, axis=-1)
    loss = -log_truth
    if focal_gamma:
        # The lower limit keeps the gradient finite at a probability of 1.
        loss = loss * ops.power(ops.maximum(1.0 - ops.exp(log_truth), 1e-6), focal_gamma)
    if class_weights is not None:
        used = used * ops.sum(truth * ops.convert_to_tensor(class_weights, "float32"), axis=-1)
    return weighted_mean(loss, used)


def mask_cross_entropy(logits: Tensor, targets: Tensor, positive: Tensor) -> Tensor:
    """Return the mean binary cross-entropy per pixel of the positive slots.

    Args:
        logits: (B, P, m, m).
        targets: (B, P, m, m), 0 or 1.
        positive: (B, P), 1 for positives.
    """
    return weighted_mean(ops.mean(binary_cross_entropy(logits, targets), axis=(-1, -2)), positive)
