"""The five losses of Mask R-CNN, each a scalar that stays finite when nothing was sampled.

Divided by what was sampled in the whole batch: where several replicas share it, theirs add up to its loss.
"""

from __future__ import annotations

from keras import ops

from mrcnn.models.training.data_parallel import all_reduce

LOSSES = ("rpn_class", "rpn_box", "head_class", "head_box", "head_mask")


def weighted_mean(values, weights):
    """Sum of values × weights over the sum of the weights; 0 where all weights are 0."""
    return ops.sum(values * weights) / ops.maximum(all_reduce(ops.sum(weights)), 1.0)


def smooth_l1(difference, beta: float):
    """Huber-like loss, quadratic below `beta` (Girshick 2015, equation 3)."""
    size = ops.abs(difference)
    return ops.where(size < beta, 0.5 * ops.square(size) / beta, size - 0.5 * beta)


def objectness(logits, positive, used):
    """Binary cross-entropy over the sampled anchors; all (B, S)."""
    # max(x, 0) − x·z + log(1 + e^−|x|): the form that cannot overflow.
    loss = ops.maximum(logits, 0.0) - logits * positive + ops.log1p(ops.exp(-ops.abs(logits)))
    return weighted_mean(loss, used)


def box_regression(deltas, targets, positive, used, beta: float):
    """Smooth L1 over the positives, divided by the number sampled, so that its weight does not depend on how many
    positives an image has (torchvision and detectron2 do the same). Shapes (B, S, 4), (B, S), (B, U)."""
    loss = ops.sum(smooth_l1(deltas - targets, beta), axis=-1)
    return ops.sum(loss * positive) / ops.maximum(all_reduce(ops.sum(used)), 1.0)


def classification(logits, class_ids, used, class_weights=None, focal_gamma: float = 0.0):
    """Softmax cross-entropy over the sampled regions, weighted by class, or focal (Lin et al. 2017, RetinaNet, eq. 5).

    Args:
        logits: (B, R, K + 1); class_ids: (B, R); used: (B, R); class_weights: (K + 1,) or None.
    """
    log_probability = ops.log_softmax(logits, axis=-1)
    truth = ops.one_hot(class_ids, logits.shape[-1], dtype="float32")
    log_truth = ops.sum(log_probability * truth, axis=-1)
    loss = -log_truth
    if focal_gamma:
        # The floor keeps the power's gradient finite where the probability is 1.
        loss = loss * ops.power(ops.maximum(1.0 - ops.exp(log_truth), 1e-6), focal_gamma)
    if class_weights is not None:
        used = used * ops.sum(truth * ops.convert_to_tensor(class_weights, "float32"), axis=-1)
    return weighted_mean(loss, used)


def mask_cross_entropy(logits, targets, positive):
    """Binary cross-entropy per pixel over the positive slots: (B, P, m, m), (B, P, m, m), (B, P)."""
    loss = ops.maximum(logits, 0.0) - logits * targets + ops.log1p(ops.exp(-ops.abs(logits)))
    return weighted_mean(ops.mean(loss, axis=(-1, -2)), positive)
