"""The same cases drawn beside each other: truth, and what each model found."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from experiments.comparison.joint_test_set import TestSet
from experiments.comparison.measuring import ANY_CLASS, Measured, by_image, detections_of
from mrcnn.inference.drawing import overlay
from mrcnn.metrics import Evaluator

EACH = 2
"""Cases of each kind."""


@dataclass(frozen=True)
class Case:
    """One image of a test set.

    Attributes:
        kind: `best`, `worst` or `most different`.
        number: of the image in the test set, from 1; a page is passed on, so files and patients are not named.
        pictures: caption and (H, W, 3) uint8: the truth, then each model.
    """

    kind: str
    number: int
    pictures: tuple[tuple[str, np.ndarray], ...]


def chosen_cases(dice: Mapping[str, list[float | None]]) -> list[tuple[str, int]]:
    """Kind and position of the images where the models are most different, worst and best by Dice; none twice.

    Args:
        dice: of each image, by model, in the same order. Images without a value for any model take no part, one that
            some models lack counts as 0 for them.
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
    taken: list[tuple[str, int]] = []
    for kind, order in orders.items():
        free = [index for index in order if index not in {index for _, index in taken}]
        taken += [(kind, index) for index in free[:EACH]]
    return taken


def drawn_cases(test_set: TestSet, measured: Mapping[str, Measured]) -> list[Case]:
    """Pictures of the chosen cases, in the test set's classes where all models know them."""
    by_class = all(each.by_class is not None for each in measured.values())
    names = test_set.images.class_names if by_class else ANY_CLASS
    evaluators: dict[str, Evaluator] = {
        label: each.by_class if by_class else each.any_class for label, each in measured.items()
    }
    dice = {
        label: [row["dice"] for row in evaluator.per_case(measured[label].confidence)]
        for label, evaluator in evaluators.items()
    }
    results = {label: by_image(evaluator.coco_results()) for label, evaluator in evaluators.items()}
    found = []
    for kind, index in chosen_cases(dice):
        sample = test_set.images[index]
        if not by_class:
            one = np.ones_like(sample.class_ids)
            sample = replace(sample, class_ids=one, masks=sample.instances, crowd_masks=sample.crowds)
        pictures = [("truth", overlay(sample.image, sample.instances, sample.class_ids, names))]
        height, width = sample.image.shape[:2]
        for label, each in measured.items():
            shown = detections_of(results[label].get(index + 1, []), height, width).above(each.confidence)
            picture = overlay(sample.image, shown.instances, shown.class_ids, names, scores=shown.scores)
            value = dice[label][index]
            told = "nothing to find, nothing found" if value is None else f"Dice {value:.3f}"
            pictures.append((f"{label}: {told}", picture))
        found.append(Case(kind, index + 1, tuple(pictures)))
    return found


def data_address(picture: np.ndarray) -> str:
    """(H, W, 3) uint8 as an address that holds the picture itself (JPEG, which a page of many can afford)."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
