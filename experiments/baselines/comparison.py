"""Tables that compare all models of a task on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from experiments.evaluation.evaluate_on_test import Result
from experiments.evaluation.tables import IMAGE_ROWS, interval_text
from mrcnn.metrics.classification import auc, rates, with_intervals

MEASURES = {
    "mask_ap50": "mask AP50",
    "mask_ap": "mask AP",
    "dice": "Dice of images",
    "volume_dice": "Dice of volumes",
    "precision": "precision",
    "recall": "recall",
    **IMAGE_ROWS,
}


@dataclass(frozen=True)
class Column:
    """Scores of a model by name, and their 95 % intervals (`_lo`, `_hi`)."""

    scores: Mapping[str, float]
    intervals: Mapping[str, float]


def image_scores(
    result: Result, positive: np.ndarray, patient_ids: Sequence[str], resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Compute values and intervals of `auc`, `accuracy`, `sensitivity` and `specificity` of a segmenter for images.

    An image is predicted positive if there is a detection at the threshold. Its score is that of the best detection.

    Args:
        result: of the segmenter on the images.
        positive: (I,) bool, in the order of the images in the evaluator.
        patient_ids: patient of each image; intervals resample patients.
        resamples: number of bootstrap samples.
        seed: of the bootstrap.
    """
    best = np.zeros(len(positive))
    for each in result.evaluator.coco_results():
        image = each["image_id"] - 1
        best[image] = max(best[image], each["score"])
    predicted = np.array([case["detections"] > 0 for case in result.evaluator.per_case(result.confidence)], bool)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"auc": auc(positive, best, weights), **rates(positive, predicted, weights)}

    return with_intervals(statistic, patient_ids, resamples, seed)


def rows(columns: Mapping[str, Column]) -> list[dict[str, Any]]:
    """Return a row for each model and measure, all with the same keys; None where there is no interval."""
    return [
        {
            "model": model,
            "measure": name,
            "value": column.scores[name],
            "low": column.intervals.get(f"{name}_lo"),
            "high": column.intervals.get(f"{name}_hi"),
        }
        for model, column in columns.items()
        for name in MEASURES
        if name in column.scores
    ]


def comparison_table(columns: Mapping[str, Column]) -> Table:
    """Make a table for the terminal: a row a measure, a column a model, intervals below the values."""
    table = Table()
    table.add_column("")
    for model in columns:
        table.add_column(model, justify="right", overflow="fold")
    for label, cells in _cells(columns, between="\n"):
        table.add_row(label, *cells)
    return table


def comparison_markdown(columns: Mapping[str, Column]) -> str:
    """Make the same table in Markdown."""
    lines = [
        ["", *columns],
        ["---", *("---:" for _ in columns)],
        *([label, *cells] for label, cells in _cells(columns, between=" ")),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cells(columns: Mapping[str, Column], *, between: str) -> list[tuple[str, list[str]]]:
    shown = [name for name in MEASURES if any(name in column.scores for column in columns.values())]
    return [(MEASURES[name], [_cell(column, name, between) for column in columns.values()]) for name in shown]


def _cell(column: Column, name: str, between: str) -> str:
    if name not in column.scores:
        return ""
    ends = interval_text(column.intervals, name, "–")
    return f"{column.scores[name]:.3f}" + (f"{between}({ends})" if ends else "")
