"""One trial: a training as `mrcnn train` does it, cut short where it promises little, its thresholds tuned."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import optuna
from rich.console import Console

from experiments.config.resolve import check
from experiments.config.schema import TaskConfig
from experiments.training.checkpointing import TrainingCheckpointer, asked_facts
from experiments.training.resume import Refused, take_up
from experiments.training.trainer import fit_model, make_model
from experiments.training.training_data import Data
from mrcnn.backend import clear_session
from mrcnn.data import Dataset
from mrcnn.metrics import Evaluator
from mrcnn.models import MaskRCNN
from sweeps.candidate_cache import cache_candidates, suppressed
from sweeps.options import INFERENCE_MS, SweepOptions
from sweeps.run_endings import RETRIED_RUN, RUN
from sweeps.space import configured, suggest
from sweeps.study import EPOCHS, RESUMED_AFTER
from sweeps.thresholds import ThresholdSearch
from trackers.checkpoints.unfinished_runs import Unfinished
from trackers.runs.run import Parent, Run, tracked_run
from trackers.runs.signals import Pruned

TIMED_IMAGES = 20
CONFIDENCE, NMS_IOU = "confidence", "nms_iou"
"""User attributes of a finished trial: the thresholds found."""


@dataclass(frozen=True)
class Job:
    """All that a worker must know.

    Attributes:
        config: the task, with what the space does not touch.
        options: with the full names of the searched options.
        objectives: names of validation metrics, the first of which prunes and chooses the best epoch.
        storage, study: where the trials are.
        parent: the sweep's run.
    """

    config: TaskConfig
    options: SweepOptions
    objectives: tuple[str, ...]
    storage: str
    study: str
    parent: Parent

    def as_json(self) -> dict[str, object]:
        return {
            "config": self.config.model_dump(mode="json", exclude_unset=True),
            "options": self.options.model_dump(mode="json"),
            "objectives": self.objectives,
            "storage": self.storage,
            "study": self.study,
            "parent": {"run_id": self.parent.run_id, "experiment_id": self.parent.experiment_id},
        }

    @classmethod
    def from_json(cls, given: Mapping[str, object]) -> Job:
        return cls(
            config=check(given["config"], "job"),
            options=SweepOptions.model_validate(given["options"]),
            objectives=tuple(given["objectives"]),
            storage=given["storage"],
            study=given["study"],
            parent=Parent(**given["parent"]),
        )


def run_trial(trial: optuna.Trial, job: Job, data: Data, console: Console) -> list[float]:
    """Train what the study proposes and measure it on the validation images; the test images are not looked at.

    Raises:
        Pruned: others promise more.
        Undefined: an objective is not defined on the validation images.
    """
    config = configured(job.config, suggest(trial, job.options.space))
    # The networks of the trials before are let go, and the random numbers do not depend on them.
    clear_session()
    keras.utils.set_random_seed(config.seed)
    with ExitStack() as held:
        return _run_trial(trial, job, config, data, held, console)


def _run_trial(
    trial: optuna.Trial, job: Job, config: TaskConfig, data: Data, held: ExitStack, console: Console
) -> list[float]:
    keeping = _interrupted(trial, config, data, held, console)
    tags = {"trial": str(trial.number), "sweep": job.study}
    if RETRIED_RUN in trial.user_attrs and keeping is None:
        tags["retry_of"] = trial.user_attrs[RETRIED_RUN]
    with (
        tracked_run(
            task=config.task,
            modality=config.modality,
            seed=config.seed,
            backend=keras.backend.backend(),
            run_name=f"trial {trial.number}",
            tags=tags,
            parent=job.parent,
            resumed=keeping and keeping.unfinished.run_id,
        ) as run,
        tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder,
    ):
        trial.set_user_attr(RUN, run.id)
        console.print(f"\nTrial {trial.number}: {trial.params}; run {run.id}", markup=False, soft_wrap=True)
        held.push(partial(_let_go, training := Unfinished(run.id)))
        reported: Collection[int] = ()
        if keeping is None:
            held.enter_context(training.held())
            keeping = TrainingCheckpointer(training, asked_facts(config, data))
            run.params({f"space.{name}": value for name, value in trial.params.items()})
            model, config = make_model(config, data, run, console, Path(folder))
        else:
            model, config = keeping.model()
            console.print(f"Going on after epoch {keeping.epochs_done} of {config.train.epochs}", soft_wrap=True)
            for attribute in (EPOCHS, RESUMED_AFTER):
                trial.set_user_attr(attribute, keeping.epochs_done)
            reported = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        watch = Watch(trial, job.objectives, run, reported)
        best, epochs = fit_model(model, config, data, run, console, Path(folder), watch, keeping=keeping)
        return measure(best, config, data.splits["val"], trial, job, run, epochs + 1)


def _interrupted(
    trial: optuna.Trial, config: TaskConfig, data: Data, held: ExitStack, console: Console
) -> TrainingCheckpointer | None:
    """The training of the attempt that was interrupted, where it can go on from a state."""
    if RETRIED_RUN not in trial.user_attrs:
        return None
    try:
        return take_up(Unfinished(trial.user_attrs[RETRIED_RUN]), config, lambda: data, held, console).keeping
    except Refused as reason:
        console.print(f"Trial {trial.number} starts from its beginning: {reason}", markup=False, soft_wrap=True)
        return None


def _let_go(training: Unfinished, kind: type[BaseException] | None, *_: object) -> None:
    """Only a stopped trial is tried again; one that was killed never comes here."""
    if kind is None or not issubclass(kind, KeyboardInterrupt):
        training.remove()


class Watch:
    """Tells the study of each validation, and ends the training where the study's pruner says so.

    Args:
        reported: epochs of which the study knows, from an attempt that was interrupted.
    """

    def __init__(
        self, trial: optuna.Trial, objectives: Sequence[str], run: Run, reported: Collection[int] = ()
    ) -> None:
        self._trial, self._objectives, self._run, self._reported = trial, objectives, run, reported

    def __call__(self, epoch: int, record: Mapping[str, float]) -> None:
        """Raises `Pruned`."""
        self._trial.set_user_attr(EPOCHS, epoch)
        value = record.get(f"val/{self._objectives[0]}")
        # Optuna compares the reports of single-objective studies alone.
        if value is None or len(self._objectives) > 1:
            return
        if epoch not in self._reported:
            self._trial.report(float(value), epoch)
        if self._trial.should_prune():
            said = f"epoch {epoch}: {self._objectives[0]} {value:.4g} promises less than others"
            self._run.tags({"pruned": said})
            raise Pruned(said)


class Undefined(RuntimeError):
    """An objective has no value on the validation images, as a distance without any detection."""


def measure(
    model: MaskRCNN, config: TaskConfig, validation: Dataset, trial: optuna.Trial, job: Job, run: Run, step: int
) -> list[float]:
    """Find the thresholds of a trained model, and its objectives with them."""
    thresholds, options = job.options.thresholds, config.evaluate
    started = time.monotonic()
    evaluator = Evaluator(validation.class_names, volumes=options.volumes)
    cases = cache_candidates(model, validation, batch_size=options.images_at_once)
    nms_iou = model.config.nms_iou
    confidence = options.confidence
    if thresholds.sets:
        search = ThresholdSearch(cases, len(validation.class_names), model.config.max_detections)
        start = (0.5 if confidence == "auto" else confidence, nms_iou)
        found = search.best(thresholds.sets, per_class=False, start=start, seed=config.seed)
        confidence, nms_iou = found.confidence[0], found.nms_iou[0]
    for case in suppressed(cases, [nms_iou] * len(validation.class_names), model.config.max_detections):
        evaluator.add_case(case)
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
    return [scores[name] for name in job.objectives]


def inference_ms(model: MaskRCNN, dataset: Dataset) -> float:
    """Median milliseconds from an image to its instances, one image at a time, the first of which is not timed."""
    images = [dataset.image(index) for index in range(min(TIMED_IMAGES, len(dataset)))]
    times = []
    for image in [images[0], *images]:
        started = time.perf_counter()
        model.detect([image], batch_size=1)
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:])) * 1000
