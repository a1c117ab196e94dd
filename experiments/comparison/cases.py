"""Draw test images with the annotation and the detections of each model for the comparison page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments.comparison.joint_test_set import TestSet
from experiments.comparison.measurements import ANY_CLASS, Measurement, group_by_image, to_any_class
from experiments.prediction.results import coco_to_detections
from mrcnn.inference.drawing import FALSE, MISSED, TRUE, match_marks, overlay

CASES_PER_KIND = 2


@dataclass(frozen=True)
class Case:
    """One image of a test set.

    Attributes:
        kind: `best`, `worst` or `most different`.
        number: position in the test set, from 1. Pages are shared, so they contain no names of files and patients.
        pictures: caption and (H, W, 3) uint8: the annotation, then each model.
    """

    kind: str
    number: int
    pictures: tuple[tuple[str, np.ndarray], ...]


def select_cases(dice: Mapping[str, list[float | None]]) -> list[tuple[str, int]]:
    """Select the images where the models are most different, worst and best by Dice; none twice.

    Args:
        dice: model → Dice of each image. Images without a value for any model are ignored; if only some models have
            no value, it counts as 0.

    Returns:
        Kind and position of each selected image.
    """
    rows = list(zip(*dice.values(), strict=True))
    defined = {
        index: [value or 0.0 for value in row] for index, row in enumerate(rows) if any(v is not None for v in row)
    }
    orders = {
        "most different": sorted(defined, key=lambda i: min(defined[i]) - max(defined[i])),
        "worst": sorted(defined, key=lambda i: sum(defined[i])),
        "best": sorted(defined, key=lambda i: -sum(defined[i])),
    }
    if len(dice) < 2:
        del orders["most different"]
    selected: list[tuple[str, int]] = []
    for kind, order in orders.items():
        free = [index for index in order if index not in {index for _, index in selected}]
        selected += [(kind, index) for index in free[:CASES_PER_KIND]]
    return selected


def draw_cases(test_set: TestSet, measured: Mapping[str, Measurement]) -> list[Case]:
    """Draw the selected images, in the classes of the test set if all models have them."""
    evaluators = {label: each.by_class for label, each in measured.items() if each.by_class is not None}
    by_class = len(evaluators) == len(measured)
    names = test_set.images.class_names if by_class else ANY_CLASS
    if not by_class:
        evaluators = {label: each.any_class for label, each in measured.items()}
    dice = {
        label: [row["dice"] for row in evaluator.per_case(measured[label].confidence)]
        for label, evaluator in evaluators.items()
    }
    results = {label: group_by_image(evaluator.coco_results()) for label, evaluator in evaluators.items()}
    cases = []
    for kind, index in select_cases(dice):
        sample = test_set.images[index]
        if not by_class:
            sample = to_any_class(sample)
        pictures = [("truth", overlay(sample.image, sample.instances, sample.class_ids, names))]
        height, width = sample.image.shape[:2]
        for label, each in measured.items():
            shown = coco_to_detections(results[label].get(index + 1, []), height, width).above(each.confidence)
            of_truth, marks = match_marks(sample, shown, len(names))
            picture = overlay(sample.image, shown.instances, shown.class_ids, names, scores=shown.scores, marks=marks)
            value = dice[label][index]
            score = "no instances, no detections" if value is None else f"Dice {value:.3f}"
            counts = ", ".join(f"{(of_truth + marks).count(mark)} {mark}" for mark in (TRUE, FALSE, MISSED))
            pictures.append((f"{label}: {score}; {counts}", picture))
        cases.append(Case(kind, index + 1, tuple(pictures)))
    return cases
