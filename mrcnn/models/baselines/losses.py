"""Losses of class maps: each a scalar that stays finite for images without instances. Maps are (B, H, W, M) float32."""

from __future__ import annotations

from keras import ops

from mrcnn.models.training.replicas import all_reduce, per_replica

SMOOTHING = 1.0
"""Pixels added to both sides of a ratio, so that a class that is nowhere in the batch has a value and a gradient."""
MISSED, FALSE = 0.7, 0.3
"""Weights of missed and of false pixels in the Tversky index: alpha and beta of Abraham & Khan 2018, section 4."""
GAMMA = 4 / 3


def cross_entropy(logits, maps, exclusive: bool, counted=None):
    """Mean over pixels: softmax over all maps, or a sigmoid for each and the mean over them.

    Args:
        counted: (B, H, W, 1) float32, 0 where a pixel is ignored; None: all count.
    """
    if counted is not None:
        if exclusive:
            loss = -ops.sum(maps * ops.log_softmax(logits, axis=-1), axis=-1, keepdims=True)
        else:
            loss = ops.maximum(logits, 0.0) - logits * maps + ops.log1p(ops.exp(-ops.abs(logits)))
        loss = ops.mean(loss, axis=-1, keepdims=True)
        return ops.sum(loss * counted) / ops.maximum(all_reduce(ops.sum(counted)), 1.0)
    if exclusive:
        return per_replica(-ops.mean(ops.sum(maps * ops.log_softmax(logits, axis=-1), axis=-1)))
    # max(x, 0) − x·z + log(1 + e^−|x|): the form that cannot overflow.
    return per_replica(ops.mean(ops.maximum(logits, 0.0) - logits * maps + ops.log1p(ops.exp(-ops.abs(logits)))))


def dice_loss(probabilities, maps):
    """1 − soft Dice of each class over the whole batch, the mean over classes (Milletari et al. 2016, V-Net, eq. 2).

    Over the batch and not each image, as most slices of a volume are empty, where Dice is 0 for a single false pixel.
    Without squares in the denominator, as nnU-Net has it (Isensee et al. 2021).
    """
    both, truth, found = _sums(probabilities, maps)
    return per_replica(1.0 - ops.mean((2.0 * both + SMOOTHING) / (truth + found + SMOOTHING)))


def focal_tversky(probabilities, maps):
    """(1 − Tversky index)^(1/γ) of each class over the batch, the mean over classes (Abraham & Khan 2018, eq. 2, 4)."""
    both, truth, found = _sums(probabilities, maps)
    index = (both + SMOOTHING) / (both + MISSED * (truth - both) + FALSE * (found - both) + SMOOTHING)
    # The floor keeps the root's gradient finite where nothing is wrong.
    return per_replica(ops.mean(ops.power(ops.maximum(1.0 - index, 1e-6), 1.0 / GAMMA)))


def _sums(probabilities, maps):
    """For each class the sums (M,) over the batch of p·t, t and p."""
    over = (0, 1, 2)
    return tuple(all_reduce(ops.sum(each, axis=over)) for each in (probabilities * maps, maps, probabilities))
