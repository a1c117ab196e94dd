"""Measure every image at one confidence threshold, and average over images and classes.

Rules for a class in an image:

- Dice and IoU compare the unions of the class's masks. If truth and prediction are both empty, the image is excluded
  from the mean of the class; if exactly one is empty, it counts as 0.
- HD95 compares the same unions, in pixels, and in millimeters if the image has a spacing. It is excluded if either is
  empty; `skipped` counts the cases with exactly one empty.
- Predicted pixels in a crowd of the class that are in no true mask are ignored, and so are detections in a crowd that
  match no instance.

The value of a class is the mean over its images; the overall value is the mean over classes (macro average).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrcnn.metrics.case import Case
from mrcnn.metrics.matching import overlap
from mrcnn.metrics.operating_point import ratio
from mrcnn.metrics.surface import hausdorff95, surface_points


@dataclass(frozen=True)
class Measurement:
    """Store the measurements of I images and K classes; NaN where excluded.

    Attributes:
        dice, iou, hd95, hd95_mm: (I, K) float64.
        true_positives, false_positives, misses: (I, K) int64, at mask IoU 0.5.
    """

    dice: np.ndarray
    iou: np.ndarray
    hd95: np.ndarray
    hd95_mm: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    misses: np.ndarray

    @property
    def skipped(self) -> int:
        """Number of (image, class) pairs without HD95 because exactly one of truth and prediction is empty."""
        return int((~np.isnan(self.dice) & np.isnan(self.hd95)).sum())


def measure(cases: Sequence[Case], confidence: float, class_count: int) -> Measurement:
    """Measure every image with the detections of at least `confidence`.

    Example:
        A square of 4 pixels, and a detection of which half is inside.

        >>> from mrcnn.data.sample import Sample
        >>> from mrcnn.detections import Detections
        >>> from mrcnn.metrics.case import make_case
        >>> masks = np.zeros((2, 1, 6, 6), bool)
        >>> masks[0, 0, 1:3, 1:3] = masks[1, 0, 1:3, 2:4] = True
        >>> sample = Sample(np.zeros((6, 6, 1), np.uint8), masks[0], np.array([1], np.int32), "anna", "a.png")
        >>> box = np.array([[2, 1, 4, 3]], np.float32)
        >>> found = Detections(box, np.array([0.9], np.float32), np.array([1], np.int32), masks[1])
        >>> measured = measure([make_case(sample, found, 1)], 0.5, 1)
        >>> measured.dice.tolist(), measured.iou.round(3).tolist(), measured.hd95.tolist()
        ([[0.5]], [[0.333]], [[1.0]])
        >>> measured.true_positives.tolist(), measured.false_positives.tolist(), measured.misses.tolist()
        ([[0]], [[1]], [[1]])
        >>> class_overlaps(make_case(sample, found, 2), 1, 2).round(3).tolist()
        [[0.5, 0.333], [nan, nan]]
    """
    counts = [case.count_above(confidence) for case in cases]
    pairs = list(zip(cases, counts, strict=True))
    overlaps = np.array([class_overlaps(case, count, class_count) for case, count in pairs])
    distances = np.array([_class_distances(case, count, class_count) for case, count in pairs])
    overlaps, distances = overlaps.reshape(-1, class_count, 2), distances.reshape(-1, class_count, 2)

    def of_classes(class_ids: list[np.ndarray]) -> np.ndarray:
        return np.array([np.bincount(each, minlength=class_count + 1)[1:] for each in class_ids], np.int64).reshape(
            -1, class_count
        )

    detections = of_classes([case.classes[:count][~case.ignored[:count]] for case, count in pairs])
    hits = of_classes([case.classes[:count][case.matched[:count] >= 0] for case, count in pairs])
    instances = of_classes([case.truth_classes for case in cases])
    return Measurement(
        dice=overlaps[..., 0],
        iou=overlaps[..., 1],
        hd95=distances[..., 0],
        hd95_mm=distances[..., 1],
        true_positives=hits,
        false_positives=detections - hits,
        misses=instances - hits,
    )


def class_overlaps(case: Case, count: int, class_count: int) -> np.ndarray:
    """Compute Dice and IoU (K, 2) of the first `count` detections; NaN for a class in neither truth nor prediction.

    Example: see `measure`.
    """
    result = np.full((class_count, 2), np.nan)
    for class_id in np.union1d(case.truth_classes, case.classes[:count]):
        both = overlap(*case.regions(count, class_id))
        result[class_id - 1] = both.dice, both.iou
    return result


def _class_distances(case: Case, count: int, class_count: int) -> np.ndarray:
    """Compute HD95 (K, 2) in pixels and in millimeters."""
    result = np.full((class_count, 2), np.nan)
    for class_id in np.intersect1d(case.truth_classes, case.classes[:count]):
        truth, predicted = (surface_points(region) for region in case.regions(count, class_id))
        pixels = hausdorff95(truth, predicted)
        result[class_id - 1, 0] = pixels
        if case.spacing_mm is not None:
            row, column = case.spacing_mm
            square = row == column
            result[class_id - 1, 1] = pixels * row if square else hausdorff95(truth, predicted, (row, column))
    return result


def class_means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average `values` (I, K) over the images where they are defined, for each row of `weights` (B, I).

    Returns:
        (B, K) float64; NaN if no image counts.

    Example:
        >>> values = np.array([[0.8, np.nan], [0.4, 0.5]])
        >>> class_means(values, np.array([[1.0, 1.0], [3.0, 1.0]])).round(3).tolist()
        [[0.6, 0.5], [0.7, 0.5]]
    """
    return ratio(weights @ np.nan_to_num(values), weights @ ~np.isnan(values))


def mean_over_classes(values: np.ndarray) -> np.ndarray:
    """Average (…, K) over the defined classes: (…), NaN if none is defined.

    Example:
        >>> mean_over_classes(np.array([[0.6, np.nan], [0.4, 0.5]])).tolist()
        [0.6, 0.45]
    """
    return ratio(np.nan_to_num(values).sum(axis=-1), (~np.isnan(values)).sum(axis=-1))


def named_means(
    name: str, values: np.ndarray, class_names: Sequence[str], weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Average `values` (I, K) over images and classes.

    Returns:
        (B,) for `name`, the mean over classes, and for `<name>/<class>`.

    Example:
        >>> means = named_means("dice", np.array([[0.8, np.nan], [0.4, 0.5]]), ("iso", "hypo"), np.ones((1, 2)))
        >>> {name: round(float(value[0]), 3) for name, value in means.items()}
        {'dice': 0.55, 'dice/iso': 0.6, 'dice/hypo': 0.5}
    """
    means = class_means(values, weights)
    of_classes = {f"{name}/{each}": means[:, position] for position, each in enumerate(class_names)}
    return {name: mean_over_classes(means)} | of_classes
