"""What happens as the model trains: progress, validation, records, checkpoints, early and emergency stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import keras

from experiments.config.schema import TaskConfig
from experiments.evaluation.evaluate import evaluate
from experiments.training.progress import ProgressDisplay
from mrcnn.data import Dataset, Sample
from mrcnn.detections import Detections
from mrcnn.inference.drawing import contact_sheet, side_by_side
from mrcnn.models.training.state import nonfinite_arrays
from trackers.checkpoints.best_and_last import Checkpoints
from trackers.checkpoints.checkpoint_store import disk_refusals
from trackers.runs.run import Run
from trackers.runs.tensorboard import EventWriter

PREVIEW_IMAGES = 3
OnValidation = Callable[[int, Mapping[str, float]], None]
"""Called after a validation with the epoch, counted from 1, and what was measured; it may raise to end the training."""


class Diverged(RuntimeError):
    """A loss, or a weight, is no longer a number after the step of the epoch at position `step`.

    With `or_before` the update of the step before may be what did it.
    """

    def __init__(self, message: str, step: int = 0, *, or_before: bool = False) -> None:
        super().__init__(message)
        self.step, self.or_before = step, or_before


class EpochCallback(keras.callbacks.Callback):
    """Shows each step; after each epoch validates, records and keeps the model.

    Args:
        keep: called after each epoch, before the run is told of it, to keep the state of the training.

    Attributes:
        epochs_done: over all stages.
        stopped_early: whether `train.patience` ended the training.
    """

    def __init__(
        self,
        config: TaskConfig,
        validation: Dataset,
        *,
        screen: ProgressDisplay,
        run: Run,
        events: EventWriter,
        checkpoints: Checkpoints,
        on_validation: OnValidation | None = None,
        keep: Callable[[EpochCallback], None] | None = None,
    ) -> None:
        super().__init__()
        self._on_validation, self._keep = on_validation, keep
        self._config, self._validation = config, validation
        self._screen, self._run, self._events, self._checkpoints = screen, run, events, checkpoints
        self.epochs_done = 0
        self.stopped_early = False
        self._started, self._step = 0.0, 0
        self._last_better = 0
        self._validations = 0
        self._record: dict[str, float] = {}
        self._validated = False

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._started = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        self._step = batch
        if not math.isfinite(logs["loss"]):
            parts = [name for name, value in logs.items() if name != "loss" and not math.isfinite(value)]
            said = f"the loss is {logs['loss']}" + (f" ({', '.join(parts)})" if parts else "")
            # An update with gradients that are not finite shows in the next loss; those of earlier epochs were whole.
            self._diverge(said, or_before=batch > 0)
        self._screen.step(self.epochs_done + 1, batch + 1, logs)

    def _diverge(self, what: str, *, or_before: bool = False) -> NoReturn:
        raise Diverged(
            f"epoch {self.epochs_done + 1}, step {self._step + 1}: {what}; "
            "try a lower train.learning_rate or train.clip_norm",
            self._step,
            or_before=or_before,
        )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        # Of the last step no later loss would tell, and neither checkpoint nor state may hold what it left.
        if spoilt := nonfinite_arrays(self.model):
            self._diverge(f"the gradients are not finite, and left {spoilt[0]} so")
        self.epochs_done += 1
        number, options = self.epochs_done, self._config.train
        record = {f"train/{name}": float(value) for name, value in logs.items()}
        record["train/learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        text, folder = "", self._checkpoints.folder
        if number % options.validate_every == 0 or number == options.epochs:
            self._screen.validating(number)
            measured = self._validate(number)
            record |= {f"val/{name}": float(value) for name, value in measured.items()}
            with disk_refusals(number, folder):
                self._checkpoints.save(self.model, number, record)
            text = self._progress(number, measured)
        record["train/epoch_seconds"] = seconds = time.monotonic() - self._started
        self._record, self._validated = record, bool(text)
        # The run comes last: what is told twice after a kill it sees, and what was not told is told from the state.
        with disk_refusals(number, folder):
            self._events.scalars(record, number)
        if self._keep is not None:
            self._keep(self)
        self._tell()
        self._screen.epoch(number, logs, text, seconds)

    def _tell(self) -> None:
        """The run, and who listens, of the epoch that is over."""
        self._run.metrics(self._record, step=self.epochs_done)
        if self._validated and self._on_validation is not None:
            self._on_validation(self.epochs_done, self._record)

    def progress(self) -> dict[str, object]:
        """Plain data from which `go_on` goes on after the last epoch."""
        return {
            "epochs_done": self.epochs_done,
            "stopped_early": self.stopped_early,
            "last_better": self._last_better,
            "validations": self._validations,
            "record": self._record,
            "validated": self._validated,
        }

    def go_on(self, progress: Mapping[str, Any]) -> None:
        """Take up a training after the epoch of `progress`, of which the run may not have been told."""
        self.epochs_done, self.stopped_early = progress["epochs_done"], progress["stopped_early"]
        self._last_better, self._validations = progress["last_better"], progress["validations"]
        self._record, self._validated = progress["record"], progress["validated"]
        if self.epochs_done:
            self._tell()

    def _validate(self, number: int) -> dict[str, float]:
        options = self._config.evaluate
        shown: list[tuple[Sample, Detections]] = []

        def show(sample: Sample, found: Detections) -> None:
            if len(shown) < PREVIEW_IMAGES:
                shown.append((sample, found))

        evaluator = evaluate(
            self.model,
            self._validation,
            batch_size=options.images_at_once,
            volumes=options.volumes,
            on_image=show,
        )
        confidence = evaluator.best_confidence() if options.confidence == "auto" else options.confidence
        names = self._validation.class_names
        pictures = [side_by_side(sample, found.above(confidence), names) for sample, found in shown]
        with disk_refusals(number, self._checkpoints.folder):
            self._events.image("val", contact_sheet(pictures, columns=1), number)
        return {**evaluator.summary(confidence), "confidence": confidence}

    def _progress(self, number: int, measured: Mapping[str, float]) -> str:
        """What to print of a validation; asks the training to stop after too many without a better one."""
        self._validations += 1
        shown = {"mask_ap": "AP", "mask_ap50": "AP50", "dice": "Dice", "volume_dice": "volume Dice", "auc": "AUC",
                 "accuracy": "accuracy"}  # fmt: skip
        text = "val " + " ".join(f"{word} {measured[name]:.3f}" for name, word in shown.items() if name in measured)
        if self._checkpoints.best_epoch == number:
            self._last_better = self._validations
            return f"{text} (best)"
        patience = self._config.train.patience
        if patience and self._validations - self._last_better >= patience:
            self.stopped_early = self.model.stop_training = True
        return text
