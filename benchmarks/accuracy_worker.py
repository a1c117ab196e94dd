"""Train a model of this project for `benchmarks.time_to_accuracy`, as `mrcnn train` and `mrcnn baselines` do.

Settings: `started`, see `Reporter`; `model`, mask_rcnn or resunet; `words` of `mrcnn train`; `planned`, options that
all systems share, by section; `every`, the steps between validations.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import keras

from benchmarks.accuracy_turns import Reporter
from experiments.baselines.networks import resunet_config, starting_from
from experiments.config.resolve import resolve
from experiments.config.schema import TaskConfig
from experiments.evaluation.evaluate import evaluate
from experiments.preparation.data_check import check_data
from experiments.training.budget import measured_step, measured_validation
from experiments.training.callbacks import AveragedWeights
from experiments.training.planner import make_plan, shared_settings, with_measured_time, with_shared_settings
from experiments.training.stages import compile_for, spans
from experiments.training.training_data import usable_data
from mrcnn.data import Dataset, Loader, make_batch
from mrcnn.data.transforms.dense_encoding import make_dense_batch
from mrcnn.models import MaskRCNN, ResUNet
from mrcnn.models.pretrained.initial_weights import load_weights
from mrcnn.models.training.batches import training_batches


class Report(keras.callbacks.Callback):
    """Report a validation after each epoch."""

    def __init__(self, reporter: Reporter, validation: Dataset, every: int, epochs: int, batch_size: int) -> None:
        super().__init__()
        self.reporter, self.validation = reporter, validation
        self.every, self.epochs, self.batch_size = every, epochs, batch_size

    @property
    def model(self) -> Any:
        return super().model

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.reporter.step_done()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        def predict() -> list[dict]:
            return evaluate(self.model, self.validation, batch_size=self.batch_size).coco_results()

        steps, last = (epoch + 1) * self.every, epoch + 1 == self.epochs
        if not self.reporter.report(steps, predict, last=last):
            self.model.stop_training = True


def mask_rcnn(config: TaskConfig, training: Dataset, validation: Dataset) -> tuple[Any, Loader, TaskConfig]:
    """Build the planned model, and fit the length of its training to the budget, as `Trainer.build` does."""
    plan = make_plan(config, training, validation_images=len(validation))
    config = plan.config
    model = MaskRCNN(plan.model, seed=config.seed, dtype=config.train.precision)
    if plan.weights != "none":
        load_weights(model, plan.weights)
    loader = make_loader(config, training, model, make_batch)
    if plan.draws is not None and plan.budget is not None:
        step = measured_step(model, loader, config.train)
        each = measured_validation(model, validation, config.evaluate)
        config, _ = with_measured_time(plan, step, each, len(validation))
    return model, loader, config


def resunet(config: TaskConfig, training: Dataset, validation: Dataset) -> tuple[Any, Loader, TaskConfig]:
    """Build the baseline of the planned size and length, as `train_baselines` does."""
    plan = make_plan(config, training, validation_images=len(validation))
    config = plan.config.model_copy(update={"model": config.model})
    config = starting_from(with_shared_settings(config, shared_settings(plan.config)), "none")
    model = ResUNet(resunet_config(config, training), seed=config.seed, dtype=config.train.precision)
    return model, make_loader(config, training, model, make_dense_batch), config


def make_loader(config: TaskConfig, training: Dataset, model: Any, batch_of: Any) -> Loader:
    options = config.train
    return Loader(
        training, model.config, options.batch_size, augmentation=config.augment, shuffle=True, seed=config.seed,
        workers=options.workers, batch_of=batch_of,
    )  # fmt: skip


def main(started: float, model: str, words: list[str], planned: dict[str, dict[str, Any]], every: int) -> None:
    reporter = Reporter(started)
    config = resolve(words).config
    sections = {name: getattr(config, name).model_copy(update=values) for name, values in planned.items()}
    config = config.model_copy(update=sections)
    keras.utils.set_random_seed(config.seed)
    checked = check_data(config)
    checked.raise_if_wrong()
    splits = usable_data(checked, config).splits
    network, loader, config = {"mask_rcnn": mask_rcnn, "resunet": resunet}[model](
        config, splits["train"], splits["val"]
    )
    steps = config.train.epochs * (config.train.steps_per_epoch or len(loader))
    options = config.train.model_copy(update={"epochs": math.ceil(steps / every), "steps_per_epoch": every})
    callbacks = [
        *([AveragedWeights()] if options.ema else []),
        Report(reporter, splits["val"], every, options.epochs, config.evaluate.images_at_once),
    ]
    (span,) = spans(options)
    compile_for(network, span, options, every)
    with training_batches(loader) as batches:
        network.fit(
            batches, steps_per_epoch=every, epochs=options.epochs, callbacks=callbacks, shuffle=False, verbose=0
        )


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
