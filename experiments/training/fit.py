"""Training in stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from experiments.config.schema import Stage, TrainOptions
from experiments.training.callbacks import Diverged, EpochCallback
from experiments.training.progress import ProgressDisplay
from mrcnn.data import Loader
from mrcnn.models import MaskRCNN
from mrcnn.models.training.batches import training_batches
from mrcnn.models.training.optimizers import WarmUp, make_optimizer
from mrcnn.models.training.stages import set_trainable
from mrcnn.models.training.state import restore_optimizer


@dataclass(frozen=True)
class Span:
    """A stage with its place in the training: epochs `start` … `end` - 1, counted from 0."""

    layers: str
    learning_rate: float
    start: int
    end: int


def spans(options: TrainOptions) -> Iterator[Span]:
    """The stages laid one after another; the last one, and one without a length, go on until `train.epochs`.

    Without pretrained weights all layers learn in each of them: there is nothing worth freezing.
    """
    start = 0
    for number, stage in enumerate(options.stages, 1):
        open_ended = stage.epochs is None or number == len(options.stages)
        end = options.epochs if open_ended else min(start + stage.epochs, options.epochs)
        if start < end:
            layers = "all" if options.weights == "none" else stage.layers
            yield Span(layers, stage.learning_rate or options.learning_rate, start, end)
        start = end


def fit(model: MaskRCNN, loader: Loader, options: TrainOptions, steps: int, epoch_end: EpochCallback,
        screen: ProgressDisplay, arrays: Mapping[str, np.ndarray] | None = None) -> None:  # fmt: skip
    """Train `model` through its stages, `steps` steps an epoch; it is compiled anew for each stage.

    It begins after the epochs that `epoch_end` knows as done; `arrays` then hold the optimizer as it was.
    """
    done = epoch_end.epochs_done
    for span in spans(options):
        if span.end <= done or epoch_end.stopped_early:
            continue
        start = max(span.start, done)
        if options.stages != (Stage(),):
            screen.say(f"Training {span.layers}: epochs {span.start + 1} to {span.end} at {span.learning_rate:g}")
        set_trainable(model, span.layers)
        schedule = WarmUp(span.learning_rate, (span.end - span.start) * steps, options.warmup_steps, options.schedule)
        model.compile(
            optimizer=make_optimizer(
                options.optimizer,
                schedule,
                momentum=options.momentum,
                weight_decay=options.weight_decay,
                clip_norm=options.clip_norm,
            )
        )
        if start > span.start:
            restore_optimizer(model, arrays)
        try:
            # Counted over the whole training, so that no stage gets an order and an augmentation that another had.
            with training_batches(loader, skipped=start * steps) as batches:
                model.fit(
                    batches,
                    steps_per_epoch=steps,
                    initial_epoch=start,
                    epochs=span.end,
                    callbacks=[epoch_end],
                    shuffle=False,  # the loader has done so
                    verbose=0,
                )
        except Diverged as error:
            position = epoch_end.epochs_done * steps + error.step
            named = f"images of the step: {', '.join(loader.file_names(0, position))}"
            if error.or_before:
                named += f"; of the step before: {', '.join(loader.file_names(0, position - 1))}"
            raise Diverged(f"{error}; {named}", error.step) from error
