"""Analyze where a model fails: curves over the confidence, confused classes, patients, and pictures of errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.evaluation.figures import confidence_figure, confusion_figure, reliability_figure
from mrcnn.data import Dataset, Sample
from mrcnn.detections import Detections
from mrcnn.inference.drawing import side_by_side
from mrcnn.instance_masks import InstanceMasks
from mrcnn.metrics import Evaluator
from mrcnn.metrics.case import Case
from mrcnn.rle import areas, coco_boxes
from trackers.runs.run import Run

FALSE_POSITIVE, MISS = "false_positive", "miss"
MARGIN = 0.75
"""Margin around an error in its picture, as a share of the longer side of the error."""
LEAST_SIDE = 64
"""Shorter side of the picture of an error in pixels of the image, if the image is as large."""
_COUNTS = ("instances", "detections", "true_positives", "false_positives", "misses")


def curves(evaluator: Evaluator, confidence: float) -> dict[str, Any]:
    """Collect the confusion matrix and all curves as data for JSON."""
    mean, share, counts = evaluator.reliability()
    false, sensitivity = evaluator.froc_curve()
    return {
        "confusion_matrix": {
            "rows": [*evaluator.class_names, "false positives"],
            "columns": [*evaluator.class_names, "misses"],
            "counts": evaluator.confusion_matrix(confidence).tolist(),
        },
        "confidence_curves": evaluator.confidence_curves(),
        "reliability": {"mean_score": mean, "precision": share, "detections": counts},
        "froc": {"false_positives_per_image": false, "sensitivity": sensitivity},
        "precision_recall": {
            name: {"recall": recall, "precision": precision}
            for name, (recall, precision) in evaluator.pr_curves().items()
        },
    }


def log_figures(run: Run, evaluator: Evaluator, confidence: float, images: str, folder: str = "") -> None:
    """Log the scores over the confidence, the calibration and the confusion matrix as figures."""
    of_confidence = confidence_figure(
        evaluator.confidence_curves(), confidence, f"Scores over the confidence, {images}"
    )
    run.figure(of_confidence, f"{folder}figures/confidence.png")
    bins = {"all detections": evaluator.reliability()}
    reliability = reliability_figure(bins, f"Calibration of the scores, {images}", "mean score", "precision")
    run.figure(reliability, f"{folder}figures/reliability.png")
    matrix = evaluator.confusion_matrix(confidence)
    run.figure(
        confusion_figure(matrix, evaluator.class_names, f"Confusion matrix, {images}"),
        f"{folder}figures/confusion_matrix.png",
    )


def patient_rows(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sum the counts and average the Dice of each patient's images, the lowest Dice first; None comes last.

    Args:
        cases: `Evaluator.per_case`.
    """
    of_patients: dict[str, list[Mapping[str, Any]]] = {}
    for case in cases:
        of_patients.setdefault(case["patient_id"], []).append(case)
    rows = []
    for patient, images in of_patients.items():
        dice = [case["dice"] for case in images if case["dice"] is not None]
        counts = {name: sum(case[name] for case in images) for name in _COUNTS}
        rows.append(
            {"patient": patient, "images": len(images), "dice": float(np.mean(dice)) if dice else None, **counts}
        )
    return sorted(rows, key=lambda row: (row["dice"] is None, row["dice"], -row["misses"] - row["false_positives"]))


def log_errors(run: Run, dataset: Dataset, evaluator: Evaluator, confidence: float, count: int) -> None:
    """Log pictures of the false positives with the highest scores and of the largest missed instances.

    Each shows truth and prediction side by side around the error, as `errors/<kind>_<rank>_case_<row>.png`, with the
    row of the image in `per_case.csv` from 1.
    """
    cases = evaluator.cases
    counts = [case.count_above(confidence) for case in cases]
    false = [
        (-float(case.scores[k]), index, case.boxes[k])
        for index, (case, shown) in enumerate(zip(cases, counts, strict=True))
        for k in np.flatnonzero((case.matched[:shown] < 0) & ~case.ignored[:shown])
    ]
    missed = []
    for index, (case, shown) in enumerate(zip(cases, counts, strict=True)):
        boxes, sizes = coco_boxes(case.truth), areas(case.truth)
        missed += [
            (-float(sizes[k]), index, boxes[k]) for k in np.setdiff1d(np.arange(len(sizes)), case.matched[:shown])
        ]
    for kind, errors in ((FALSE_POSITIVE, false), (MISS, missed)):
        for rank, (_, index, box) in enumerate(sorted(errors, key=lambda error: error[:2])[:count], start=1):
            picture = _picture(dataset[index], cases[index], counts[index], box, evaluator.class_names)
            run.image(picture, f"errors/{kind}_{rank:02d}_case_{index + 1}.png")


def _picture(sample: Sample, case: Case, shown: int, box: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Draw truth and prediction around a box (x, y, width, height)."""
    height, width = sample.image.shape[:2]
    x, y, across, down = box
    margin = MARGIN * max(across, down)
    columns = _extent(x, across, margin, width)
    rows = _extent(y, down, margin, height)
    predicted = InstanceMasks(height, width, [rle["counts"] for rle in case.predicted[:shown]])
    part = replace(
        sample,
        image=sample.image[rows, columns],
        masks=sample.masks[:, rows, columns],
        crowd_masks=None,
        crowd_ids=None,
    )
    detections = Detections(
        np.zeros((shown, 4), np.float32),
        case.scores[:shown],
        case.classes[:shown],
        predicted.to_array()[:, rows, columns],
    )
    return side_by_side(part, detections, class_names)


def _extent(start: float, length: float, margin: float, limit: int) -> slice:
    """Extend a range by the margin, to at least `LEAST_SIDE` pixels, within 0 … `limit`."""
    margin = max(margin, (LEAST_SIDE - length) / 2)
    return slice(max(int(start - margin), 0), min(int(np.ceil(start + length + margin)), limit))
