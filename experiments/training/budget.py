"""Plan how long to train: the images that a preset wants, the time that a budget allows, and the measured step."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cache

import keras
import numpy as np

from experiments.config.schema import PLANNED_EPOCHS, EvaluateOptions, TrainOptions
from experiments.evaluation.evaluate import evaluate
from mrcnn.backend import ops
from mrcnn.config import BACKBONES, ModelConfig
from mrcnn.data import Dataset, Loader
from mrcnn.models import MaskRCNN
from mrcnn.models.training.batches import training_batches
from mrcnn.models.training.optimizers import make_optimizer
from mrcnn.models.training.state import random_states, restore_random_states


@dataclass(frozen=True)
class Effort:
    """Bounds of a preset.

    Attributes:
        minutes: budget on a CPU without `train.budget`.
        passes: passes over the training images, within `least` and `most` images.
    """

    minutes: float
    passes: int
    least: int
    most: int

    def images(self, training_images: int) -> int:
        """Return how many images the training draws, each time an image is drawn counted."""
        return min(max(self.passes * training_images, self.least), self.most)


PRESETS = {
    "fast": Effort(5, 15, 2_000, 6_000),
    "standard": Effort(30, 40, 5_000, 20_000),
    "best": Effort(180, 120, 20_000, 200_000),
}
SHORTEST_EPOCH = 25
"""Steps of the shortest planned epoch; shorter trainings have fewer than `PLANNED_EPOCHS`."""
FEWEST_VALIDATED = 10
VALIDATION_SHARE = 1 / 6
"""Largest share of the training's time for validations."""
PREDICTION, METRICS = 0.5, 0.05
"""Time of an image in a validation: in times of that in a training step, and seconds for its masks and metrics."""
LOSSES = 0.3
"""Time of the losses of an image in a validation, in times of that in a training step."""
OVERHEAD, START = 0.1, 90.0
"""Share of the budget for the evaluation at the end, and seconds for the start and the compilation."""
PROCESS_GIB = 1.3
UNIT = 256**2
MEASURED_STEPS = 12


def budget_seconds(options: TrainOptions, kind: str) -> float | None:
    """Return the budget in seconds: that of the options, else on a CPU that of the preset; None: no bound."""
    if options.budget is not None:
        return float(options.budget[:-1]) * {"s": 1, "m": 60, "h": 3600}[options.budget[-1]]
    return PRESETS[options.preset].minutes * 60 if kind == "cpu" else None


def fitting_seconds(budget: float) -> float:
    """Return the part of a budget that is left for steps and validations."""
    return max((1 - OVERHEAD) * budget - START, 0.2 * budget)


@dataclass(frozen=True)
class Length:
    """Length of a training: epochs, steps of each, and images of each validation, None for all."""

    epochs: int
    steps_per_epoch: int
    validation_images: int | None


def planned_length(
    budget: float | None, wanted: int, batch_size: int, validation_images: int, step: float, validation: float,
    fewest: int | None = FEWEST_VALIDATED,
) -> Length:  # fmt: skip
    """Divide the images that a training draws into epochs, within the budget.

    Args:
        budget: in seconds, or None.
        wanted: images that the training would draw without a budget.
        batch_size: images of a training step.
        validation_images: size of the validation split.
        step: seconds of a training step.
        validation: seconds of an image in a validation.
        fewest: images that a validation may be limited to; None: it may not be limited.

    Example:
        >>> planned_length(1800, 12_000, batch_size=4, validation_images=40, step=0.4, validation=0.1)
        Length(epochs=20, steps_per_epoch=150, validation_images=None)
        >>> planned_length(1800, 12_000, batch_size=4, validation_images=400, step=0.8, validation=0.1)
        Length(epochs=20, steps_per_epoch=80, validation_images=127)
    """
    steps, epochs, limit = wanted / batch_size, PLANNED_EPOCHS, None
    if budget is not None:
        seconds = fitting_seconds(budget)
        least = validation_images if fewest is None else min(validation_images, fewest)
        validated = VALIDATION_SHARE * seconds / validation  # in all validations together
        epochs = min(epochs, max(int(validated / max(least, 1)), 1))
        if fewest is not None and epochs * validation_images > validated:
            limit = max(int(validated / epochs), least)
            limit = None if limit >= validation_images else limit
        left = seconds - epochs * min(validation_images, limit or validation_images) * validation
        steps = min(steps, max(left, seconds / 2) / step)
    epochs = min(epochs, max(int(steps / SHORTEST_EPOCH), 1))
    return Length(epochs, max(math.ceil(steps / epochs), 1), limit)


def estimated_seconds(config: ModelConfig, reference: float) -> float:
    """Estimate the seconds of one image in a training step from those of the reference convolution."""
    height, width = config.input_shape
    masks = config.roi_samples / 64 * (config.mask_pool_size / 14) ** 2
    return reference * (
        BACKBONES[config.backbone].step_cost * height * width / UNIT + 2 * masks + config.roi_samples / 64
    )


def estimated_memory(config: ModelConfig, batch_size: int, precision: str) -> float:
    """Estimate the GiB of a training process."""
    height, width = config.input_shape
    wider = 1.0 if precision == "mixed_bfloat16" else 1.7
    return PROCESS_GIB + batch_size * BACKBONES[config.backbone].activation_gib * wider * height * width / UNIT


@cache
def reference_seconds(precision: str) -> float:
    """Return the time of a 3×3 convolution from 64 to 64 channels of 4 images of 64×64 cells, the best of several."""
    dtype = "bfloat16" if precision == "mixed_bfloat16" else "float32"
    images = ops.cast(np.ones((4, 64, 64, 64), np.float32), dtype)
    kernel = ops.cast(np.ones((3, 3, 64, 64), np.float32), dtype)
    times = []
    for _ in range(30):
        start = time.perf_counter()
        np.asarray(ops.convert_to_numpy(ops.cast(ops.conv(images, kernel, padding="same")[0, 0, 0], "float32")))
        times.append(time.perf_counter() - start)
    return min(times)


def measured_step(model: MaskRCNN, loader: Loader, options: TrainOptions) -> float:
    """Return the seconds of a training step after compilation, with the loading of its batches.

    The model and what the loader yields later are as before.
    """
    ends: list[float] = []
    timer = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
    model.compile(optimizer=make_optimizer(options.optimizer, 1e-6))
    weights, states = model.get_weights(), random_states(model)
    with training_batches(loader) as batches:
        model.fit(
            batches,
            steps_per_epoch=MEASURED_STEPS,
            callbacks=[timer],
            shuffle=False,  # the loader has shuffled
            verbose=0,  # pyright: ignore[reportArgumentType]
        )
    model.set_weights(weights)
    restore_random_states(model, states)
    # The first step compiles, and the second takes a batch that was loaded meanwhile.
    return float(np.mean(np.diff(ends)[1:]))


def measured_validation(model: MaskRCNN, validation: Dataset, options: EvaluateOptions) -> float:
    """Return the seconds of an image in a validation after compilation, with its metrics."""
    # An image of a model with tiles is many images for the network.
    few = validation.subset(range(min(2 * options.images_at_once, len(validation)) if model.config.tile is None else 1))
    times = []
    for _ in range(2):
        start = time.perf_counter()
        evaluate(model, few, batch_size=options.images_at_once, volumes=options.volumes).summary(0.5)
        times.append(time.perf_counter() - start)
    return times[-1] / len(few)
