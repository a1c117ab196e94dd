"""The optimizer that a configuration asks for."""

from __future__ import annotations

import keras

OPTIMIZERS = ("sgd", "adamw")


def make_optimizer(
    name: str, learning_rate, *, momentum: float = 0.9, weight_decay: float = 1e-4, clip_norm: float | None = 5.0
) -> keras.optimizers.Optimizer:
    """SGD with momentum, or AdamW; gradients clipped by their global norm.

    Weight decay leaves out biases and normalisation weights, as He et al. 2016 and their successors do. It is the
    decoupled kind (Loshchilov & Hutter 2019) for both.

    Raises:
        ValueError: an unknown name.
    """
    common = {"learning_rate": learning_rate, "weight_decay": weight_decay or None, "global_clipnorm": clip_norm}
    if name == "sgd":
        optimizer = keras.optimizers.SGD(momentum=momentum, **common)
    elif name == "adamw":
        optimizer = keras.optimizers.AdamW(**{**common, "weight_decay": weight_decay})
    else:
        raise ValueError(f"optimizer {name!r}: expected one of {', '.join(OPTIMIZERS)}")
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
