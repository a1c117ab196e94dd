"""Optimizers and learning rate schedules."""

from __future__ import annotations

import math
from typing import Any

import keras

from mrcnn.backend import Tensor, ops

OPTIMIZERS = ("sgd", "adamw")


def make_optimizer(
    name: str,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    *,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    clip_norm: float | None = 5.0,
    ema: float = 0.0,
) -> keras.optimizers.Optimizer:
    """Create SGD with momentum or AdamW, with gradients clipped by their global norm.

    Weight decay is decoupled (Loshchilov & Hutter 2019) and excludes biases and normalization weights (He et al. 2016).

    Args:
        name: one of `OPTIMIZERS`.
        learning_rate: number or schedule.
        momentum: momentum of SGD.
        weight_decay: factor of the decay per step.
        clip_norm: largest global norm of the gradients; None for no clipping.
        ema: momentum of an exponential moving average of the weights (Polyak & Juditsky 1992), which the optimizer
            holds beside them; 0 for none.

    Raises:
        ValueError: an unknown name.
    """
    common = {"learning_rate": learning_rate, "weight_decay": weight_decay or None, "global_clipnorm": clip_norm}
    if ema:
        common |= {"use_ema": True, "ema_momentum": ema}
    if name == "sgd":
        optimizer = keras.optimizers.SGD(momentum=momentum, **common)
    elif name == "adamw":
        optimizer = keras.optimizers.AdamW(**{**common, "weight_decay": weight_decay})
    else:
        raise ValueError(f"optimizer {name!r}: expected one of {', '.join(OPTIMIZERS)}")
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


SCHEDULES = ("constant", "cosine", "step")


@keras.saving.register_keras_serializable("mrcnn")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Warm up linearly (Goyal et al. 2017, 2.2), then constant, cosine (Loshchilov & Hutter 2017, eq. 5) or steps.

    Args:
        peak: learning rate after the warm-up.
        total_steps: optimizer steps of the training.
        warmup_steps: steps of the linear rise from 1/1000 of the peak.
        schedule: `constant`; `cosine`, to 1/100 of the peak; `step`, 1/10 after 2/3 and 1/100 after 8/9 of the steps
            (60k and 80k of 90k in He et al. 2017).
    """

    def __init__(self, peak: float, total_steps: int, warmup_steps: int = 0, schedule: str = "cosine") -> None:
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule {schedule!r}: expected one of {', '.join(SCHEDULES)}")
        self.peak, self.total_steps, self.warmup_steps, self.schedule = peak, total_steps, warmup_steps, schedule

    def __call__(self, step: Tensor) -> Tensor:
        step = ops.cast(step, "float32")
        progress = ops.clip((step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1), 0.0, 1.0)
        factor = ops.ones_like(step)
        if self.schedule == "cosine":
            factor = 0.01 + 0.99 * 0.5 * (1.0 + ops.cos(math.pi * progress))
        elif self.schedule == "step":
            done = step / self.total_steps
            factor = ops.where(done < 2 / 3, 1.0, ops.where(done < 8 / 9, 0.1, 0.01))
        rise = ops.clip((step + 1.0) / max(self.warmup_steps, 1), 1e-3, 1.0)
        return self.peak * factor * rise

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "schedule": self.schedule,
        }
