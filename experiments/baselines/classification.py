"""Validate, calibrate and evaluate a classifier of images, and choose its threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from experiments.config.schema import TaskConfig
from experiments.evaluation.artifacts import csv_text
from experiments.evaluation.figures import axes_of, reliability_figure
from experiments.training.callbacks import Validate
from experiments.training.training_data import Data, split_title
from mrcnn.config import ClassifierConfig
from mrcnn.data import Dataset
from mrcnn.data.transforms.dense_encoding import is_positive
from mrcnn.errors import counted
from mrcnn.metrics.calibration import apply_platt, expected_calibration_error, fit_platt, log_loss, reliability
from mrcnn.metrics.classification import slice_scores, with_intervals, youden_threshold
from mrcnn.models import Classifier
from trackers.runs.run import Run

METRIC = "auc"
"""Metric that decides the champion; it depends on no threshold."""
EPOCH_METRIC = "log_loss"
"""Metric that decides the best epoch, lower is better: cross-entropy of the validation split after calibration on it.
AUC would stop at the first epoch that ranks few patients correctly."""


@dataclass(frozen=True)
class ClassifierResult:
    """A calibrated classifier with its threshold, and its scores with 95 % intervals (`_lo`, `_hi`)."""

    model: Classifier
    threshold: float
    scores: Mapping[str, float]
    intervals: Mapping[str, float]


class ValidateClassifier(Validate):
    """Evaluate a classifier, calibrated on the validation split, after each epoch."""

    def metrics(self) -> dict[str, float]:
        dataset = self.dataset
        positive = truth_of(dataset, self.model.config)
        logits = _logits(self.model, dataset, self.options.images_at_once)
        probabilities = apply_platt(logits, *fit_platt(positive, logits))
        scores = slice_scores(
            positive, probabilities, youden_threshold(positive, probabilities), np.ones((1, len(dataset)))
        )
        found = {name: float(value[0]) for name, value in scores.items() if not np.isnan(value[0])}
        return found | {EPOCH_METRIC: log_loss(positive, probabilities)}


def truth_of(dataset: Dataset, config: ClassifierConfig) -> np.ndarray:
    """Return which images are positive: (I,) bool."""
    return np.array([is_positive(record, config) for record in dataset.records], bool)


def even_chances(dataset: Dataset, config: ClassifierConfig) -> np.ndarray | None:
    """Compute weights (I,) that sample positive and negative images equally often; None if one kind is missing."""
    positive = truth_of(dataset, config)
    count = int(positive.sum())
    return np.where(positive, 1 / count, 1 / (len(positive) - count)) if 0 < count < len(positive) else None


def evaluate_classifier_on_test(
    model: Classifier, config: TaskConfig, data: Data, run: Run, console: Console, *, step: int
) -> ClassifierResult:
    """Calibrate and choose the threshold on the validation split, evaluate the reported split once, log and print."""
    options, at_once, split = config.evaluate, config.evaluate.images_at_once, data.reported
    validation, reported = data.splits["val"], data.splits[split]
    positive = truth_of(validation, model.config)
    logits = _logits(model, validation, at_once)
    if positive.all() or not positive.any():
        console.print(
            "warning: the validation split contains one kind of image only; the classifier is not calibrated",
            style="yellow",
        )
    slope, intercept = fit_platt(positive, logits)
    threshold = config.baseline.classifier_threshold
    if threshold == "youden":
        threshold = youden_threshold(positive, apply_platt(logits, slope, intercept))

    truth = truth_of(reported, model.config)
    logits = _logits(model, reported, at_once)
    raw, probabilities = apply_platt(logits, 1.0, 0.0), apply_platt(logits, slope, intercept)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        uncalibrated = expected_calibration_error(truth, raw, weights)
        return slice_scores(truth, probabilities, threshold, weights) | {"ece_uncalibrated": uncalibrated}

    patients = [record.patient_id for record in reported.records]
    scores, intervals = with_intervals(statistic, patients, options.resamples, config.seed)
    run.metrics({f"{split}/{name}": value for name, value in (scores | intervals).items()}, step)
    run.metrics({"threshold": threshold, "slope": slope, "intercept": intercept})
    title = f"{split_title(data)}, probability: {threshold:.3g}"
    headline = ", ".join(
        f"{name} {scores[name]:.3f}" for name in ("auc", "sensitivity", "specificity") if name in scores
    )
    run.tags({"mlflow.note.content": f"{headline}. {data.name}, {title}. **Research use only.**"})
    run.text(csv_text(_rows(reported, truth, probabilities, threshold)), "per_case.csv")
    images = counted(len(reported), f"{split} image")
    run.figure(roc_figure(truth, probabilities, threshold, f"ROC, {images}"), "figures/roc.png")
    bins = {"calibrated": reliability(truth, probabilities), "as trained": reliability(truth, raw)}
    run.figure(
        reliability_figure(bins, f"Reliability, {images}", "mean probability", "share of positives"),
        "figures/reliability.png",
    )
    console.print(f"\n{title}", style="bold")
    return ClassifierResult(model.with_calibration(slope, intercept), threshold, scores, intervals)


def _logits(model: Classifier, dataset: Dataset, batch_size: int) -> np.ndarray:
    """Compute the logit of every image (I,); one batch of images is in memory at a time."""
    found, context = [], model.config.context_slices
    for start in range(0, len(dataset), batch_size):
        images = [dataset.image(index, context) for index in range(start, min(start + batch_size, len(dataset)))]
        found.append(model.logits(images, batch_size=batch_size))
    return np.concatenate(found or [np.zeros(0)])


def _rows(dataset: Dataset, truth: np.ndarray, probabilities: np.ndarray, threshold: float) -> list[dict[str, object]]:
    return [
        {
            "source": record.file_name,
            "patient_id": record.patient_id,
            "positive": int(positive),
            "probability": f"{probability:.6f}",
            "called": int(probability >= threshold),
        }
        for record, positive, probability in zip(dataset.records, truth, probabilities, strict=True)
    ]


def roc_figure(positive: np.ndarray, probabilities: np.ndarray, threshold: float, title: str) -> Figure:
    """Plot sensitivity over 1 − specificity at every threshold, with the operating point."""
    figure, axes = axes_of(title, "1 − specificity", "sensitivity")
    levels = np.concatenate([[np.inf], np.unique(probabilities)[::-1]])
    if positive.any() and not positive.all():
        called = probabilities[None] >= np.append(levels, threshold)[:, None]
        up, across = called[:, positive].mean(axis=1), called[:, ~positive].mean(axis=1)
        axes.plot(across[:-1], up[:-1])
        axes.plot(across[-1], up[-1], "o", label=f"probability {threshold:.2g}")
        axes.legend(frameon=False, loc="lower right")
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    return figure
