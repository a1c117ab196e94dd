"""Keras callbacks of a training, in the order in which `Trainer` lists them, and the state that they share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any, NoReturn

import keras
import numpy as np

from experiments.config.schema import EvaluateOptions
from experiments.evaluation.evaluate import evaluate
from experiments.training.progress import ProgressDisplay
from mrcnn.data import Dataset, Loader, Sample
from mrcnn.data.transforms.encoding import Batch
from mrcnn.detections import Detections
from mrcnn.inference.drawing import contact_sheet, side_by_side
from mrcnn.models.training.state import nonfinite_arrays, random_states, restore_random_states
from trackers.checkpoints.checkpoint_store import BEST, BEST_EPOCH, LAST, CheckpointStore
from trackers.runs.run import Run
from trackers.runs.tensorboard import EventWriter

PREVIEW_IMAGES = 3
SMOOTHED = 3
"""Validations whose mean decides about early stopping: a single one of few images is noisy."""
PROGRESS, EVENTS, RANDOM = "progress", "events", "random"
"""Facts of a checkpoint: the fields of `TrainingState`, `EventWriter.position`, and `random_states`."""
OnValidation = Callable[[int, Mapping[str, float]], None]
"""Called after a validation with the epoch, counted from 1, and its metrics; it may raise to end the training."""


class Diverged(RuntimeError):
    """A loss or a weight is not finite; the message names the step and its images."""


@dataclass
class TrainingState:
    """State of a training that its callbacks share and its checkpoints contain.

    Attributes:
        metric: name of the metric that decides the best epoch, such as `val/mask_ap50`.
        higher_is_better: False for a loss.
        epochs_done: over all stages.
        stopped_early: whether `train.patience` ended the training.
        scores: the metric of each validation; NaN where it was not defined.
        best_epoch, best_value: the best epoch, counted from 1, and its metric; None: the metric was never defined.
        record: metrics of the last epoch.
        validated: whether the last epoch was validated.
    """

    metric: str
    higher_is_better: bool = True
    epochs_done: int = 0
    stopped_early: bool = False
    scores: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    best_value: float | None = None
    record: dict[str, float] = field(default_factory=dict)
    validated: bool = False

    def add_epoch(self, metrics: Mapping[str, float]) -> None:
        """Count an epoch, and begin its record with the metrics of its training."""
        self.epochs_done += 1
        self.validated = False
        self.record = {f"train/{name}": float(value) for name, value in metrics.items()}

    def add_validation(self, metrics: Mapping[str, float]) -> None:
        """Add the metrics of a validation to the record; a strictly better value makes this epoch the best."""
        self.record |= {f"val/{name}": float(value) for name, value in metrics.items()}
        self.validated = True
        value = self.record.get(self.metric, math.nan)
        self.scores.append(value)
        if math.isnan(value):
            return
        before = self.best_value
        if before is None or (value > before if self.higher_is_better else value < before):
            self.best_epoch, self.best_value = self.epochs_done, value

    def validations_since_best(self) -> int:
        """Count the validations after the one with the best mean of its metric and the two before it."""
        windows = [self.scores[max(end - SMOOTHED, 0) : end] for end in range(1, len(self.scores) + 1)]
        means = [fmean(defined) if (defined := [x for x in part if not math.isnan(x)]) else None for part in windows]
        ranked = [(mean if self.higher_is_better else -mean, -at) for at, mean in enumerate(means) if mean is not None]
        return len(self.scores) - 1 + max(ranked)[1] if ranked else len(self.scores)

    def index(self) -> dict[str, Any]:
        """Return the content of `checkpoints.json`."""
        best = None if self.best_epoch is None else {"epoch": self.best_epoch, "value": self.best_value, "file": BEST}
        last = {"epoch": self.epochs_done, "metrics": dict(self.record), "file": LAST}
        return {"metric": self.metric, "higher_is_better": self.higher_is_better, "best": best, "last": last}


class TrainingCallback(keras.callbacks.Callback):
    """Callback with the state of the training."""

    def __init__(self, state: TrainingState) -> None:
        super().__init__()
        self.state = state

    @property
    def model(self) -> Any:
        return super().model


class FiniteLoss(TrainingCallback):
    """Raise `Diverged` where a loss or, at the end of an epoch, a weight is not finite.

    The losses of a step are read after the next step was dispatched, because reading them waits for the device. As a
    context manager around `fit` it also checks the last step before an error, whose cause that may be.

    Attributes:
        losses: of the last step that was read, as means over the epoch so far.
    """

    def __init__(self, state: TrainingState, loader: Loader, steps_per_epoch: int) -> None:
        super().__init__(state)
        self._loader, self._steps = loader, steps_per_epoch
        self.losses: dict[str, float] = {}
        self._unread: tuple[int, Mapping[str, Any]] | None = None

    def __enter__(self) -> FiniteLoss:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, Diverged):
            self._read()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._read()
        self._unread = batch, logs or {}

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._read()
        self.losses = {}
        # No later loss shows the update of the last step, and no checkpoint may contain it.
        if names := nonfinite_arrays(self.model):
            self._raise(f"the gradients are not finite, and left {names[0]} so", self._steps - 1)

    def _read(self) -> None:
        if self._unread is None:
            return
        (step, logs), self._unread = self._unread, None
        self.losses = {name: float(value) for name, value in logs.items()}
        if not math.isfinite(self.losses["loss"]):
            parts = [name for name, value in self.losses.items() if name != "loss" and not math.isfinite(value)]
            problem = f"the loss is {self.losses['loss']}" + (f" ({', '.join(parts)})" if parts else "")
            # Gradients that are not finite show in the next loss; the weights were finite when the epoch began.
            self._raise(problem, step, or_before=step > 0)

    def _raise(self, problem: str, step: int, *, or_before: bool = False) -> NoReturn:
        position = self.state.epochs_done * self._steps + step
        images = f"images of the step: {', '.join(self._loader.file_names(0, position))}"
        if or_before:
            images += f"; of the step before: {', '.join(self._loader.file_names(0, position - 1))}"
        raise Diverged(
            f"epoch {self.state.epochs_done + 1}, step {step + 1}: {problem}; "
            f"try a lower train.learning_rate or train.clip_norm; {images}"
        )


class AveragedWeights(keras.callbacks.SwapEMAWeights):
    """Put the averaged weights into the model from the end of an epoch until the next one begins.

    The callbacks after this one validate and save the average; the optimizer holds the weights to go on with. So does
    a checkpoint: with an optimizer that was restored from one, the model begins with the average.
    """

    def __init__(self) -> None:
        super().__init__(swap_on_epoch=True)

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        assert self.model is not None
        steps = np.asarray(keras.ops.convert_to_numpy(self.model.optimizer.iterations)).item()
        self._ema_weights_in_model = steps > 0


def validation_losses(model: Any, batches: Iterable[Batch]) -> dict[str, float]:
    """Compute the losses in inference mode, as means over batches with ground truth; one that is not finite is absent.

    The anchors and regions are sampled with the same random numbers each time, and the generators of the training are
    as before, so a training is the same with and without validation losses.
    """
    states = random_states(model)
    restore_random_states(model, [[0] * len(state) for state in states])
    try:
        found = [model.test_on_batch(batch, return_dict=True) for batch in batches]
    finally:
        restore_random_states(model, states)
    means = {name: fmean(float(losses[name]) for losses in found) for name in found[0]}
    return {name: value for name, value in means.items() if math.isfinite(value)}


class Validate(TrainingCallback):
    """Complete the record of the epoch, and evaluate the validation split after every `every` epochs and the last one.

    Subclasses override `metrics` for other models than segmenters.

    Args:
        batches: returns the batches of the validation losses; None: these are not computed.
    """

    def __init__(
        self,
        state: TrainingState,
        dataset: Dataset,
        options: EvaluateOptions,
        events: EventWriter,
        display: ProgressDisplay,
        *,
        every: int,
        epochs: int,
        batches: Callable[[], Iterable[Batch]] | None = None,
    ) -> None:
        super().__init__(state)
        self.dataset, self.options, self.events, self.display = dataset, options, events, display
        self._batches = batches
        self._every, self._epochs, self._started = every, epochs, 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        rate = np.asarray(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)).item()
        self.state.add_epoch({**(logs or {}), "learning_rate": rate})
        number = self.state.epochs_done
        if number % self._every == 0 or number == self._epochs:
            self.display.validating(number)
            losses = {} if self._batches is None else validation_losses(self.model, self._batches())
            self.state.add_validation({**losses, **self.metrics()})
        self.state.record["train/epoch_seconds"] = time.monotonic() - self._started

    def metrics(self) -> dict[str, float]:
        """Evaluate the model, and write its predictions for the first images as events."""
        shown: list[tuple[Sample, Detections]] = []

        def show(sample: Sample, detections: Detections) -> None:
            if len(shown) < PREVIEW_IMAGES:
                shown.append((sample, detections))

        options, names = self.options, self.dataset.class_names
        evaluator = evaluate(
            self.model, self.dataset, batch_size=options.images_at_once, volumes=options.volumes, on_image=show
        )
        confidence = evaluator.best_confidence() if options.confidence == "auto" else options.confidence
        pictures = [side_by_side(sample, detections.above(confidence), names) for sample, detections in shown]
        self.events.image("val", contact_sheet(pictures, columns=1), self.state.epochs_done)
        return {**evaluator.summary(confidence), "confidence": confidence}


class EarlyStopping(TrainingCallback):
    """Stop after `patience` validations without a better mean of three; 0 or None: never."""

    def __init__(self, state: TrainingState, patience: int | None) -> None:
        super().__init__(state)
        self._patience = patience

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        state = self.state
        if self._patience and state.validated and state.validations_since_best() >= self._patience:
            state.stopped_early = self.model.stop_training = True


class SaveCheckpoint(TrainingCallback):
    """Save the model with the state of the training.

    Args:
        facts: saved in each checkpoint besides the state.

    Attributes:
        index: the content of `checkpoints.json` for the newest checkpoint; None: no epoch is done.
    """

    def __init__(
        self, state: TrainingState, store: CheckpointStore, events: EventWriter, facts: Mapping[str, object]
    ) -> None:
        super().__init__(state)
        self._store, self._events, self._facts = store, events, facts
        self.index = state.index() if state.epochs_done else None

    def save(self, model: keras.Model) -> None:
        """Save a checkpoint after the last epoch, or before the first.

        Raises:
            CheckpointNotSaved: the disk is full or refuses.
        """
        state = self.state
        facts = {PROGRESS: asdict(state), BEST_EPOCH: state.best_epoch}
        facts |= {EVENTS: self._events.position(), RANDOM: random_states(model)}
        self._store.save(state.epochs_done, model.save, {**self._facts, **facts})

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self.save(self.model)
        self.index = self.state.index()


class LogMetrics(TrainingCallback):
    """Log the record of an epoch to the run and for TensorBoard, and report a validation to `on_validation`.

    This follows `SaveCheckpoint`: a training that was killed in between logs them when it resumes.
    """

    def __init__(self, state: TrainingState, run: Run, events: EventWriter, on_validation: OnValidation | None) -> None:
        super().__init__(state)
        self._run, self._events, self._on_validation = run, events, on_validation

    def log(self) -> None:
        """Log the last epoch."""
        self._events.scalars(self.state.record, self.state.epochs_done)
        self._run.metrics(self.state.record, step=self.state.epochs_done)
        if self.state.validated and self._on_validation is not None:
            self._on_validation(self.state.epochs_done, self.state.record)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self.log()


SHOWN = {"mask_ap": "AP", "mask_ap50": "AP50", "dice": "Dice", "volume_dice": "volume Dice", "auc": "AUC",
         "accuracy": "accuracy"}  # fmt: skip
"""Validation metrics on the terminal, with their labels."""


class Progress(TrainingCallback):
    """Show steps and epochs on the terminal, a step with the losses that `FiniteLoss` has read."""

    def __init__(self, state: TrainingState, display: ProgressDisplay, finite: FiniteLoss) -> None:
        super().__init__(state)
        self._display, self._finite = display, finite

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._display.step(self.state.epochs_done + 1, batch + 1, self._finite.losses)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        state, record, text = self.state, self.state.record, ""
        if state.validated:
            values = [f"{word} {record[f'val/{name}']:.3f}" for name, word in SHOWN.items()
                      if f"val/{name}" in record]  # fmt: skip
            text = " ".join(["val", *values, *(["(best)"] if state.best_epoch == state.epochs_done else [])])
        self._display.epoch(state.epochs_done, logs or {}, text, record["train/epoch_seconds"])
