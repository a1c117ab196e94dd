"""Train groups of layers one after another, each with its own learning rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from experiments.config.schema import TrainOptions
from mrcnn.models import MaskRCNN
from mrcnn.models.training.optimizers import WarmUp, make_optimizer
from mrcnn.models.training.stages import set_trainable


@dataclass(frozen=True)
class Span:
    """A stage with its epochs `start` … `end` - 1, counted from 0."""

    layers: str
    learning_rate: float
    start: int
    end: int


def spans(options: TrainOptions) -> Iterator[Span]:
    """Place the stages one after another; the last one, and one without a length, continue until `train.epochs`.

    Without pretrained weights all layers are trained in each of them, since no layer is worth freezing.
    """
    start = 0
    for number, stage in enumerate(options.stages, 1):
        if stage.epochs is None or number == len(options.stages):
            end = options.epochs
        else:
            end = min(start + stage.epochs, options.epochs)
        if start < end:
            layers = "all" if options.weights == "none" else stage.layers
            yield Span(layers, stage.learning_rate or options.learning_rate, start, end)
        start = end


def compile_for(model: MaskRCNN, span: Span, options: TrainOptions, steps_per_epoch: int) -> None:
    """Freeze the layers that the stage does not train, and compile the model with a new optimizer and schedule."""
    set_trainable(model, span.layers)
    steps = (span.end - span.start) * steps_per_epoch
    model.compile(
        optimizer=make_optimizer(
            options.optimizer,
            WarmUp(span.learning_rate, steps, options.warmup_steps, options.schedule),
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            clip_norm=options.clip_norm,
            ema=options.ema,
        )
    )
