"""Train, evaluate, track and register a model: `train` is the whole job, `Trainer` its parts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console

from experiments.config.resolve import Resolved, parameters, resolved_yaml
from experiments.config.schema import Stage, TaskConfig
from experiments.evaluation.evaluate_on_test import evaluate_on_test, inference_model
from experiments.evaluation.registration import package_and_register
from experiments.evaluation.report import log_report
from experiments.terminal import Terminal, phase, warn
from experiments.training.budget import measured_step, measured_validation
from experiments.training.callbacks import (
    AveragedWeights,
    EarlyStopping,
    FiniteLoss,
    LogMetrics,
    OnValidation,
    Progress,
    SaveCheckpoint,
    Validate,
)
from experiments.training.checkpointing import NETWORK, PLANNED, ResumableTraining, plain, requested_facts
from experiments.training.planner import Plan, make_plan, with_measured_time
from experiments.training.progress import ProgressDisplay
from experiments.training.resume import resumable_run, run_name
from experiments.training.stages import compile_for, spans
from experiments.training.training_data import Data, log_augmented_batch, read_data, validation_subset
from mrcnn.backend import computes_in_bfloat16
from mrcnn.data import Dataset, Loader, make_batch
from mrcnn.data.loading.batch_builder import BatchBuilder
from mrcnn.data.transforms.encoding import Batch
from mrcnn.models import MaskRCNN, load
from mrcnn.models.pretrained.initial_weights import load_weights
from mrcnn.models.training.batches import training_batches
from mrcnn.models.training.data_parallel import make_data_parallel
from trackers.checkpoints.checkpoint_store import CheckpointStore
from trackers.checkpoints.initial_weights import MODEL, model_file
from trackers.checkpoints.unfinished_runs import STATES, Unfinished
from trackers.runs.run import Run

LOSS_BATCHES = 32
"""Most batches of a validation whose losses are computed: about as long as ten training steps."""
TILE_CACHE_BYTES = 1 << 28
"""Memory for the images whose tiles are in these batches."""


def train(resolved: Resolved, resume: str | None = None, trainer_class: type[Trainer] | None = None) -> str:
    """Train, evaluate, track and register a model for a checked task.

    Args:
        resolved: the checked configuration and where each value comes from.
        resume: id of the interrupted run to resume, or `auto`, see `experiments.training.resume.find`.
        trainer_class: of a Mask R-CNN; None: `Trainer`.

    Returns:
        The id of the run.

    Raises:
        InputError: the data are invalid, or do not match the configuration or the interrupted run.
        Diverged: a loss or a weight is not finite.
        CheckpointNotSaved: the disk refuses a checkpoint.
        ServerAway: the tracking server does not answer, and the model could not be registered.
    """
    console, config, made = Terminal(), resolved.config, trainer_class or Trainer
    with (
        resumable_run(resolved, resume, console, made.kind, made.tag) as (run, training),
        tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder,
    ):
        if training is None:
            data = read_data(config, run, console)
            training = ResumableTraining(Unfinished(run.id).folder, data, requested_facts(config, data))
        trainer = made(
            config, training.data, run, console, Path(folder), training=training, name=resolved.name, part=made.kind
        )
        trainer.plan()
        with make_data_parallel(trainer.config.train.devices, trainer.config.train.batch_size):
            trainer.build()
            trainer.fit()
        trainer.evaluate()
        trainer.register()
    return run.id


class Trainer:
    """Train a model: `plan`, `build`, `fit`, `evaluate`, `register`. Subclasses do so for other models.

    Args:
        config: of the task; `plan` decides what it leaves open.
        folder: an empty one for files of this process.
        training: where checkpoints are saved, and the one to resume from; None: in `folder`, which no other process
            resumes.
        on_validation: see `LogMetrics`.
        name, part: see `run_name`.

    Attributes:
        planned: by `plan`; None for a training that is resumed.
        model: from `build` on; after `fit` that of the best epoch.
        epochs: how many were trained, after `fit`.
        best_value: metric of the best epoch, after `fit`; None: it was never defined.
        result: on the reported split, after `evaluate`.
    """

    kind, tag = "", MODEL
    """Word for the name of the run, and its tag `model`."""
    make_batch: Callable[..., Batch] = staticmethod(make_batch)
    validate: type[Validate] = Validate
    metric: str | None = None
    """The validation metric that decides the best epoch; None: the task's."""
    higher_is_better = True
    planned: Plan | None = None
    model: Any
    epochs: int
    best_value: float | None
    result: Any

    def __init__(
        self,
        config: TaskConfig,
        data: Data,
        run: Run,
        console: Console,
        folder: Path,
        *,
        training: ResumableTraining | None = None,
        on_validation: OnValidation | None = None,
        name: str | None = None,
        part: str = "",
    ) -> None:
        self.config, self.data, self.run, self.console, self.folder = config, data, run, console, folder
        self.training, self.on_validation = training or ResumableTraining(folder, data), on_validation
        self.name, self.part = name, part

    def sampling_weights(self) -> np.ndarray | None:
        """Return the weight of each training image, see `Loader`; None: each is drawn once an epoch."""
        return None

    def plan(self) -> None:
        """Decide what `config` leaves open, and print the decisions; a training that is resumed has them already."""
        if self.training.checkpoint is not None:
            self.config = TaskConfig.model_validate(self.training.checkpoint.facts[PLANNED])
            return
        config, splits = self.config, self.data.splits
        with phase(self.console, "Planning"):
            self.planned = make_plan(
                config,
                splits["train"],
                lambda weights: model_file(weights, task=config.task, folder=self.folder / "start"),
                validation_images=len(splits["val"]),
            )
        self.config = self.planned.config
        for line in ("Plan:", *self.planned.lines()):
            self.console.print(line, markup=False)

    def build(self) -> None:
        """Build the planned model, fit the length of the training to the budget, and log the configuration.

        The weights come from the first of these that applies:

        1. the checkpoint of an interrupted run (`--resume`);
        2. `train.weights`: ImageNet, COCO, a file, or a model of a run or of the registry;
        3. random numbers drawn from `seed` (`train.weights=none`).
        """
        # 1.
        if self.training.checkpoint is not None:
            self.model, self.config = self.training.model()
            done = self.training.epochs_done
            self.run.tags({"resumed_after_epoch": done})
            self.console.print(f"Going on after epoch {done} of {self.config.train.epochs}")
            return
        config, plan, run, console = self.config, self.planned, self.run, self.console
        assert plan is not None
        if config.train.precision != "float32" and not computes_in_bfloat16():
            warn(
                console,
                f"train.precision={config.train.precision}: this device does not compute in bfloat16 with "
                f"{keras.backend.backend()}, a step may take tens of times as long as in float32",
            )
        # 3.
        with phase(console, "Building the network"):
            self.model = MaskRCNN(plan.model, seed=config.seed, dtype=config.train.precision)
        console.print(plan.describe(self.model.count_params()))
        # 2.
        if plan.weights != "none":
            # A downloaded file has a temporary name; the option says more.
            report = replace(load_weights(self.model, plan.weights), source=config.train.weights)
            run.text(report.text(every_layer=True), "weights.txt")
            console.print(report.text(), markup=False)
        if plan.draws is not None and plan.budget is not None:
            validation = self.data.splits["val"]
            with phase(console, "Compiling the network, and measuring the time of a step and of a validation"):
                step = measured_step(self.model, self.loader(), config.train)
                each = measured_validation(self.model, validation, config.evaluate)
            run.metrics({"step_seconds": step, "validation_seconds": each})
            self.config, line = with_measured_time(plan, step, each, len(validation))
            console.print(line)
        run.rename(run_name(self.config, self.name, self.part))
        run.params(parameters(self.config))
        run.metrics(plan.measures())
        run.text(resolved_yaml(self.config), "config.yaml")

    def loader(self) -> Loader:
        """Return the loader of the training split."""
        config, options = self.config, self.config.train
        return Loader(
            self.data.splits["train"], self.model.config, options.batch_size, augmentation=config.augment, shuffle=True,
            seed=config.seed, workers=options.workers, batch_of=self.make_batch, weights=self.sampling_weights(),
        )  # fmt: skip

    def loss_batches(self, validation: Dataset) -> Iterator[Batch]:
        """Yield batches of validation images, or of their tiles, without augmentation, the same ones each time.

        The first images fill up the last batch, so that one trace serves all.
        """
        network, size, seed = self.model.config, self.config.train.batch_size, self.config.seed
        cache_bytes = 0 if network.tile is None else TILE_CACHE_BYTES
        builder = BatchBuilder(validation, network, None, seed, cache_bytes, self.make_batch)
        order = np.random.default_rng(seed).permutation(len(builder.image_of))
        for draws in np.resize(order, (min(-(-len(order) // size), LOSS_BATCHES), size)):
            yield builder.make(0, draws.tolist())

    def fit(self) -> None:
        """Train through all stages, then load the model of the best epoch.

        Checkpoints and events are logged to the run also when the training is interrupted.

        Raises:
            Diverged: a loss or a weight is not finite; the message names the images of the step.
            CheckpointNotSaved: the disk refuses a checkpoint.
        """
        config, options, training, model = self.config, self.config.train, self.training, self.model
        loader, evaluation = self.loader(), config.evaluate
        validation = validation_subset(
            self.data.splits["val"], evaluation.validation_images, config.seed, whole_patients=evaluation.volumes
        )
        steps = options.steps_per_epoch or len(loader)
        higher_is_better = self.higher_is_better if self.metric else config.higher_is_better
        state = training.state(f"val/{self.metric or config.evaluate.metric}", higher_is_better)
        store, events = CheckpointStore(training.folder / STATES), training.events()
        facts = {**training.requested, PLANNED: plain(config), NETWORK: model.config.model_dump(mode="json")}
        display = ProgressDisplay(
            self.console, epochs=options.epochs, steps_per_epoch=steps, epochs_done=state.epochs_done
        )
        callbacks = [
            finite := FiniteLoss(state, loader, steps),
            *([AveragedWeights()] if options.ema else []),
            self.validate(state, validation, evaluation, events, display,
                          every=options.validate_every, epochs=options.epochs,
                          batches=partial(self.loss_batches, validation) if evaluation.validation_loss else None),
            EarlyStopping(state, options.patience),
            checkpoints := SaveCheckpoint(state, store, events, facts),
            metrics := LogMetrics(state, self.run, events, self.on_validation),
            Progress(state, display, finite),
        ]  # fmt: skip
        with ExitStack() as at_end:
            at_end.callback(self._log_checkpoints, store, checkpoints)
            at_end.callback(self.run.artifact, training.folder / "tensorboard")
            at_end.callback(events.close)
            at_end.enter_context(display)
            if state.epochs_done:
                metrics.log()
            elif training.checkpoint is None:
                # A training that is killed in its first epoch resumes from the same initial weights.
                checkpoints.save(model)
                log_augmented_batch(loader, self.run)
            for span in spans(options):
                if span.end <= state.epochs_done or state.stopped_early:
                    continue
                if options.stages != (Stage(),):
                    epochs = f"epochs {span.start + 1} to {span.end}"
                    display.print_line(f"Training {span.layers}: {epochs} at {span.learning_rate:g}")
                compile_for(model, span, options, steps)
                start = max(span.start, state.epochs_done)
                if start > span.start:
                    training.restore_optimizer(model)
                # The steps are counted over all stages, so that none repeats the order and augmentation of another.
                with finite, training_batches(loader, skipped=start * steps) as batches:
                    model.fit(
                        batches,
                        steps_per_epoch=steps,
                        initial_epoch=start,
                        epochs=span.end,
                        callbacks=callbacks,
                        shuffle=False,  # the loader has shuffled
                        verbose=0,
                    )
        if state.best_epoch is None:
            warn(self.console, f"{state.metric} was never defined; the last epoch is taken")
        self.epochs, self.best_value, best = state.epochs_done, state.best_value, state.best_epoch or state.epochs_done
        self.run.metrics({"best_epoch": best, "epochs": self.epochs})
        # The model itself, whose graph of predictions exists, without the optimizer and its state.
        model.compile()
        model.set_weights(load(store.path(best), (type(model),)).get_weights())

    def evaluate(self) -> None:
        """Evaluate the model of the best epoch once on the reported split."""
        # The step after the last epoch's: without a test split the scores are among those of the validations.
        self.result = evaluate_on_test(
            inference_model([self.model], self.config), self.config, self.data, self.run, self.console,
            step=self.epochs + 1,
        )  # fmt: skip

    def register(self) -> None:
        """Package and register the model; the report is written also where that fails."""
        self.model.save(file := self.folder / "model.keras")
        with ExitStack() as at_end:
            at_end.callback(log_report, self.run)
            package_and_register([file], self.result, self.config, self.data, self.run, self.console)

    def _log_checkpoints(self, store: CheckpointStore, checkpoints: SaveCheckpoint) -> None:
        """Log `checkpoints/best.keras`, `last.keras` and `checkpoints.json` to the run."""
        if checkpoints.index is not None:
            (folder := self.folder / "checkpoints").mkdir()
            store.export(folder, checkpoints.index)
            self.run.artifact(folder)
