"""Evaluate the best model of a sweep on the test split, package and register it, as after a training."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial
from rich.console import Console

from experiments.config.resolve import resolved_yaml
from experiments.config.schema import TaskConfig
from experiments.evaluation.evaluate_on_test import evaluate_on_test, inference_model
from experiments.evaluation.registration import package_and_register
from experiments.evaluation.report import log_report
from experiments.terminal import phase
from experiments.training.planner import resolve_runtime_options, with_model, with_shared_settings
from experiments.training.training_data import Data
from mrcnn.config import ModelConfig
from mrcnn.data import Dataset
from mrcnn.models import MaskRCNN, load
from sweeps.candidate_cache import cache_candidates
from sweeps.options import SweepOptions
from sweeps.record import best_config, best_yaml, objective_values, values_text, winner
from sweeps.run_endings import RUN
from sweeps.study import PLAN
from sweeps.thresholds import ThresholdSearch
from sweeps.training import CONFIDENCE, NMS_IOU
from trackers.checkpoints.initial_weights import PACKAGE, model_file
from trackers.runs.run import Run


def finalize_sweep(
    study: optuna.Study,
    config: TaskConfig,
    options: SweepOptions,
    objectives: Sequence[str],
    data: Data,
    run: Run,
    console: Console,
    folder: Path,
) -> None:
    """Evaluate, package and register the best checkpoint of the best trial with the thresholds found for it."""
    best, config = winner(study), with_shared_settings(config, study.user_attrs.get(PLAN, {}))
    reached = dict(zip(objectives, objective_values(best), strict=True))
    run.text(best_yaml(config, best, study, objectives), "best.yaml")
    run.metrics({f"best/{name}": value for name, value in reached.items()})
    run.tags({"best_trial": best.number, "best_run": best.user_attrs[RUN]})
    if len(objectives) > 1:
        for trial in study.best_trials:
            console.print(f"Pareto front: trial {trial.number}, {values_text(objectives, trial)}")
    console.print(f"\nBest: trial {best.number}, {values_text(objectives, best)}", style="bold")
    with phase(console, "Loading the best model, and searching the thresholds of each class"):
        trained = load(model_file(best.user_attrs[RUN], task=config.task, folder=folder / "best", option="best trial"))
        if options.thresholds.sets and options.thresholds.per_class and trained.config.tile is None:
            run.json(thresholds_of_classes(trained, data.splits["val"], config, options, best), "thresholds.json")
    # The threshold is saved in the network, so that exports suppress as in the trial.
    model = trained.with_settings(nms_iou=best.user_attrs[NMS_IOU])
    assert isinstance(model.config, ModelConfig)
    found = with_model(best_config(config, best), model.config)
    # The precision of the trial, whose machine can differ from this one.
    as_read = found.train.model_copy(update={"precision": model.dtype_policy.name})
    found = resolve_runtime_options(found.model_copy(update={"train": as_read}), data.splits["train"])
    # Test-time augmentation changes the scores, so the thresholds of the trial do not apply.
    tta = found.evaluate.tta is True
    confidence = "auto" if tta else best.user_attrs[CONFIDENCE]
    operating_point = found.evaluate.model_copy(update={"confidence": confidence, "tta": tta})
    found = found.model_copy(update={"evaluate": operating_point})
    result = evaluate_on_test(inference_model([model], found), found, data, run, console, step=0)
    model.save(file := folder / "model.keras")
    run.text(resolved_yaml(found), "config.yaml")
    with ExitStack() as at_last:
        at_last.callback(log_report, run)
        uri = package_and_register([file], result, found, data, run, console)
        run.tags({PACKAGE: uri})


def thresholds_of_classes(
    model: MaskRCNN, validation: Dataset, config: TaskConfig, options: SweepOptions, best: FrozenTrial
) -> dict[str, object]:
    """Return the thresholds in use, and the gain of thresholds per class on the validation images."""
    names = validation.class_names
    cases = cache_candidates(model, validation, batch_size=config.evaluate.images_at_once)
    search = ThresholdSearch(cases, len(names), model.config.max_detections)
    start = (best.user_attrs[CONFIDENCE], best.user_attrs[NMS_IOU])
    of_classes = search.best(options.thresholds.sets, per_class=True, start=start, seed=config.seed)
    in_use = search.value([start[0]] * len(names), [start[1]] * len(names))
    return {
        "value": "mean of Dice and F1 on the validation images",
        "in_use": {"confidence": start[0], "nms_iou": start[1], "value": in_use},
        "per_class": {"class_names": names, **asdict(of_classes)},
    }
