"""Evaluate a trained model once on the test split: threshold, scores, intervals, findings, overlays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from experiments.config.schema import TaskConfig
from experiments.evaluation.analysis import log_errors
from experiments.evaluation.artifacts import log_evaluation, log_overlays, log_volumes
from experiments.evaluation.evaluate import OnImage, evaluate
from experiments.evaluation.findings_log import FindingsLog
from experiments.evaluation.robustness import ROBUSTNESS, robustness, robustness_rows
from experiments.evaluation.tables import findings_table, results_table, robustness_table
from experiments.terminal import phase
from experiments.training.training_data import Data, split_title
from mrcnn.errors import counted
from mrcnn.inference.ensemble import Detector, Predictor, make_predictor
from mrcnn.metrics import Evaluator
from mrcnn.models import MaskRCNN
from trackers.packaging.tracked_model import VIEWS
from trackers.runs.run import Run
from trackers.runs.serialization import json_text

HEADLINE = ("mask_ap50", "mask_ap", "dice", "volume_dice", "f1")
"""Metrics in the description of the run in MLflow."""
SUMMARY = ("mask_ap50", "mask_ap", "dice", "hd95", "precision", "recall", "f1", "froc", "detection_rate")
"""Metrics that MLflow shows as a group of their own, `summary/`."""
MIN_SLICES = (1, 2)
"""Values of `evaluate.min_slices` to choose from."""
ERRORS = 3
"""Pictures of false positives, and of misses, for each overlay that is requested."""


def inference_model(networks: Sequence[MaskRCNN], config: TaskConfig) -> Predictor:
    """Return the predictor that is evaluated and registered: an ensemble, with test-time augmentation if configured."""
    if not config.evaluate.tta:
        return make_predictor(networks)
    mirrored_ids = config.augment.mirrored_ids(networks[0].config.class_names).tolist()
    return make_predictor(networks, config.augment.flips, mirrored_ids)


@dataclass(frozen=True)
class Result:
    """Scores of a model at its operating point, their 95 % intervals (`_lo`, `_hi`), and all its detections.

    Objects in fewer than `min_slices` slices are left out, see `Evaluator.without_short_objects`.
    """

    confidence: float
    scores: Mapping[str, float]
    intervals: Mapping[str, float]
    evaluator: Evaluator
    min_slices: int = 1


def measure(
    model: Detector,
    config: TaskConfig,
    data: Data,
    confidence: float,
    on_image: OnImage | None = None,
    *,
    min_slices: int = 1,
) -> Result:
    """Evaluate on the reported split at a threshold; nothing is logged. `on_image`: see `evaluate`."""
    options = config.evaluate
    evaluator = evaluate(
        model, data.splits[data.reported], batch_size=options.images_at_once, volumes=options.volumes, on_image=on_image
    ).without_short_objects(confidence, min_slices)
    intervals = evaluator.intervals(confidence, resamples=options.resamples, seed=config.seed)
    return Result(confidence, evaluator.summary(confidence), intervals, evaluator, min_slices)


def evaluate_on_test(
    model: Detector,
    config: TaskConfig,
    data: Data,
    run: Run,
    console: Console,
    *,
    step: int,
    confidence: float | None = None,
    min_slices: int | None = None,
) -> Result:
    """Choose the threshold on the validation split, evaluate once on the reported split, log and print the results.

    The threshold and the fewest slices of an object are not chosen where `confidence` is given, with `min_slices` or
    those of `config`. `step` is that of the logged metrics.
    """
    options, split = config.evaluate, data.reported
    at_once = options.images_at_once
    chosen = options.confidence if confidence is None else confidence
    least = (min_slices or options.min_slices) if options.volumes else 1
    if chosen == "auto":
        limited = isinstance(options.validation_images, int)
        with phase(console, f"Choosing the threshold on {counted(len(data.splits['val']), 'validation image')}"):
            validation = evaluate(model, data.splits["val"], batch_size=at_once, volumes=limited and options.volumes)
            confidence, least = validation.best_operating_point(MIN_SLICES if least == "auto" else (least,))
        if limited:
            # The epochs were validated on a part of the split, so their scores compare with no other training.
            run.metrics({f"best/{name}": value for name, value in validation.summary(confidence).items()})
    else:
        confidence, least = float(chosen), 1 if least == "auto" else least
    findings = FindingsLog(config.findings, confidence, model.config.class_names)
    with phase(console, f"Evaluating {counted(len(data.splits[split]), 'image')}"):
        result = measure(model, config, data, confidence, findings.add, min_slices=least)
    scores, intervals, evaluator = result.scores, result.intervals, result.evaluator
    run.metrics({f"{split}/{name}": value for name, value in {**scores, **intervals}.items()}, step)
    run.metrics({"confidence": confidence, **({"min_slices": least} if options.volumes else {})})
    figures = {name: scores[name] for name in SUMMARY if name in scores} | {"confidence": confidence}
    run.metrics({f"summary/{name}": value for name, value in figures.items()}, step)
    headline = ", ".join(f"{name} {scores[name]:.3f}" for name in HEADLINE if name in scores)
    run.tags(
        {"mlflow.note.content": f"{headline}. {data.name}, {_title(data, confidence, least)}. **Research use only.**"}
    )
    if config.evaluate.tta:
        mirrored_ids = config.augment.mirrored_ids(model.config.class_names).tolist()
        run.tags({VIEWS: json_text({"flips": config.augment.flips, "mirrored_ids": mirrored_ids}, indent=None)})
    with phase(console, "Drawing curves and pictures"):
        log_evaluation(run, evaluator, confidence, split)
        if options.volumes:
            log_volumes(run, evaluator, data.splits[split], confidence)
        findings.log(run, split, step)
        log_overlays(run, data.splits[split], evaluator, confidence, options.overlays)
        log_errors(run, data.splits[split], evaluator, confidence, ERRORS * options.overlays)
    robust: dict[str, dict[str, float]] = {}
    if options.robustness:
        with phase(console, "Evaluating changed images"):
            robust = robustness(model, data.splits[split], confidence, scores, batch_size=at_once)
        run.json(robust, ROBUSTNESS)
        run.metrics({f"robustness/{change.replace(' ', '_')}/{name}": value
                     for change, values in robust.items() for name, value in values.items()}, step)  # fmt: skip
    console.print(f"\n{_title(data, confidence, least)}", style="bold")
    console.print(results_table(scores, intervals, model.config.class_names))
    if robust:
        console.print(robustness_table(robustness_rows(robust)))
    if findings.summary():
        console.print(findings_table(findings.summary()))
    return result


def _title(data: Data, confidence: float, min_slices: int) -> str:
    objects = f", objects in at least {min_slices} slices" if min_slices > 1 else ""
    return f"{split_title(data)}, confidence: {confidence:g}{objects}"
