"""Run one trial: a training as in `mrcnn train` that the pruner may stop, and the search for its thresholds."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
from pydantic import TypeAdapter
from rich.console import Console

from experiments.config.schema import TaskConfig
from experiments.evaluation.evaluate import evaluate
from experiments.training.checkpointing import ResumableTraining, requested_facts
from experiments.training.planner import with_shared_settings
from experiments.training.resume import Refused, resume_training, run_name, task_run
from experiments.training.trainer import Trainer
from experiments.training.training_data import Data
from mrcnn.backend import clear_session
from mrcnn.data import Dataset
from mrcnn.metrics import Evaluator
from mrcnn.models import MaskRCNN
from sweeps.candidate_cache import cache_candidates, suppressed
from sweeps.options import INFERENCE_MS, SweepOptions
from sweeps.run_endings import RETRIED_RUN, RUN
from sweeps.space import configured, suggest
from sweeps.study import EPOCHS, PLAN, RESUMED_AFTER
from sweeps.thresholds import ThresholdSearch
from trackers.checkpoints.unfinished_runs import Unfinished
from trackers.runs.run import Parent, Run
from trackers.runs.signals import Pruned

TIMED_IMAGES = 20
CONFIDENCE, NMS_IOU = "confidence", "nms_iou"
"""User attributes of a finished trial: the thresholds found."""


@dataclass(frozen=True)
class Job:
    """A sweep, as a worker receives it.

    Attributes:
        config: the task, with the options that the space does not contain.
        options: with the full names of the options in the space.
        objectives: names of validation metrics; the first one prunes and decides the best epoch.
        storage, study: of the trials.
        parent: the run of the sweep.
    """

    config: TaskConfig
    options: SweepOptions
    objectives: tuple[str, ...]
    storage: str
    study: str
    parent: Parent

    def as_json(self) -> dict[str, Any]:
        return TypeAdapter(Job).dump_python(self, mode="json", exclude_unset=True)

    @staticmethod
    def from_json(given: Mapping[str, Any]) -> Job:
        return TypeAdapter(Job).validate_python(given)


def run_trial(trial: optuna.Trial, job: Job, data: Data, console: Console) -> list[float]:
    """Train with the options that the study suggests, and return the objectives on the validation split.

    Raises:
        Pruned: the pruner stopped the trial.
        Undefined: an objective is not defined on the validation images.
    """
    shared = with_shared_settings(job.config, trial.study.user_attrs.get(PLAN, {}))
    config = configured(shared, suggest(trial, job.options.space))
    # This frees the networks of earlier trials, and makes the random numbers independent of them.
    clear_session()
    keras.utils.set_random_seed(config.seed)
    with ExitStack() as held:
        resumed = _interrupted(trial, config, data, held, console)
        tags, part = {"trial": str(trial.number), "sweep": job.study}, f"trial {trial.number}"
        if RETRIED_RUN in trial.user_attrs and resumed is None:
            tags["retry_of"] = trial.user_attrs[RETRIED_RUN]
        with (
            task_run(config, run_name=run_name(config, part=part), tags=tags, parent=job.parent,
                     resumed=resumed and resumed.folder.name) as run,
            tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder,
        ):  # fmt: skip
            trial.set_user_attr(RUN, run.id)
            console.print(f"\nTrial {trial.number}: {trial.params}; run {run.id}", markup=False)
            held.push(partial(_remove, training := Unfinished(run.id)))
            reported: Collection[int] = ()
            if resumed is None:
                held.enter_context(training.held())
                resumed = ResumableTraining(training.folder, data, requested_facts(config, data))
                run.params({f"space.{name}": value for name, value in trial.params.items()})
            else:
                for attribute in (EPOCHS, RESUMED_AFTER):
                    trial.set_user_attr(attribute, resumed.epochs_done)
                reported = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
            watch = Watch(trial, job.objectives, run, reported)
            trainer = Trainer(
                config, data, run, console, Path(folder), training=resumed, on_validation=watch, part=part
            )
            trainer.plan()
            trainer.build()
            trainer.fit()
            return measure(trainer.model, trainer.config, data.splits["val"], trial, job, run, trainer.epochs + 1)


def _interrupted(
    trial: optuna.Trial, config: TaskConfig, data: Data, held: ExitStack, console: Console
) -> ResumableTraining | None:
    """Return the training of the interrupted attempt, if it can be resumed."""
    if RETRIED_RUN not in trial.user_attrs:
        return None
    try:
        return resume_training(Unfinished(trial.user_attrs[RETRIED_RUN]), config, lambda: data, held, console)
    except Refused as reason:
        console.print(f"Trial {trial.number} starts from its beginning: {reason}", markup=False)
        return None


def _remove(training: Unfinished, kind: type[BaseException] | None, *_: object) -> None:
    """Remove the training, unless Ctrl-C stopped it, after which the trial is retried."""
    if kind is None or not issubclass(kind, KeyboardInterrupt):
        training.remove()


class Watch:
    """Report each validation to the study, and end the training if the pruner decides so.

    Args:
        reported: epochs that an interrupted attempt has reported.
    """

    def __init__(
        self, trial: optuna.Trial, objectives: Sequence[str], run: Run, reported: Collection[int] = ()
    ) -> None:
        self._trial, self._objectives, self._run, self._reported = trial, objectives, run, reported

    def __call__(self, epoch: int, record: Mapping[str, float]) -> None:
        """Report an epoch; raise `Pruned` to end the training."""
        self._trial.set_user_attr(EPOCHS, epoch)
        value = record.get(f"val/{self._objectives[0]}")
        # Optuna compares the reports of single-objective studies alone.
        if value is None or len(self._objectives) > 1:
            return
        if epoch not in self._reported:
            self._trial.report(float(value), epoch)
        if self._trial.should_prune():
            reason = f"epoch {epoch}: {self._objectives[0]} {value:.4g} is worse than that of other trials"
            self._run.tags({"pruned": reason})
            raise Pruned(reason)


class Undefined(RuntimeError):
    """An objective has no value on the validation images, such as a distance without any detection."""


def measure(
    model: MaskRCNN, config: TaskConfig, validation: Dataset, trial: optuna.Trial, job: Job, run: Run, step: int
) -> list[float]:
    """Search the thresholds of a trained model, and compute its objectives with them.

    The threshold of suppression is not searched with `data.tile`: what tiles share is merged after it.
    """
    thresholds, options = job.options.thresholds, config.evaluate
    started = time.monotonic()
    nms_iou = model.config.nms_iou
    confidence = options.confidence
    if model.config.tile is None:
        evaluator = Evaluator(validation.class_names, volumes=options.volumes)
        cases = cache_candidates(model, validation, batch_size=options.images_at_once)
        if thresholds.sets:
            search = ThresholdSearch(cases, len(validation.class_names), model.config.max_detections)
            start = (0.5 if confidence == "auto" else confidence, nms_iou)
            found = search.best(thresholds.sets, per_class=False, start=start, seed=config.seed)
            confidence, nms_iou = found.confidence[0], found.nms_iou[0]
        for case in suppressed(cases, [nms_iou] * len(validation.class_names), model.config.max_detections):
            evaluator.add_case(case)
    else:
        evaluator = evaluate(model, validation, batch_size=options.images_at_once, volumes=options.volumes)
    if confidence == "auto":
        confidence = evaluator.best_confidence()
    scores = evaluator.summary(confidence)
    seconds = time.monotonic() - started
    if INFERENCE_MS in job.objectives:
        scores[INFERENCE_MS] = inference_ms(model, validation)
    run.metrics({f"val/{name}": value for name, value in scores.items()}, step)
    run.metrics({"confidence": confidence, "nms_iou": nms_iou, "thresholds_seconds": seconds})
    trial.set_user_attr(CONFIDENCE, confidence)
    trial.set_user_attr(NMS_IOU, nms_iou)
    for name in job.objectives:
        if name not in scores or not np.isfinite(scores[name]):
            raise Undefined(f"{name} is not defined on the validation images; there are: {', '.join(sorted(scores))}")
    values = ", ".join(f"{name} {scores[name]:.4g}" for name in job.objectives)
    run.tags({"mlflow.note.content": f"{values} on the validation split. **Research use only.**"})
    return [scores[name] for name in job.objectives]


def inference_ms(model: MaskRCNN, dataset: Dataset) -> float:
    """Measure the median inference time in milliseconds, one image at a time, after a warm-up."""
    context = model.config.context_slices
    images = [dataset.image(index, context) for index in range(min(TIMED_IMAGES, len(dataset)))]
    times = []
    for image in [images[0], *images]:
        started = time.perf_counter()
        model.detect([image], batch_size=1)
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:])) * 1000
