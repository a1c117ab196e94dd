"""Numbers of every image at one confidence threshold, and their means.

Policies, for a class in an image:

- Dice and IoU are of the unions of the class's masks. With nothing of the class in truth and prediction, the image is
  left out of the class's mean; with exactly one of them empty it counts as 0. A class's value is the mean over its
  images, the whole value the mean over classes.
- HD95 is of the same unions, in pixels, and in millimetres where the image has a spacing. It is left out where either
  is empty; `skipped` counts where exactly one is. Classes and the whole are averaged in the same way.
- Predicted pixels in a crowd of the class that no true mask has are left out of all of them, and detections that lie in
  one and found no instance are not counted.
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
    """Of I images and K classes; NaN where left out.

    Attributes:
        dice, iou, hd95, hd95_mm: (I, K) float64.
        true_positives, false_positives, misses: (I,) int64, at mask IoU .5.
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
        """(image, class) pairs without HD95 because truth or prediction, not both, is empty."""
        return int((~np.isnan(self.dice) & np.isnan(self.hd95)).sum())


def measure(cases: Sequence[Case], confidence: float, class_count: int) -> Measurement:
    """Measure every image."""
    overlaps = np.array([overlaps_of(case, case.shown(confidence), class_count) for case in cases])
    distances = np.array([_distances_of(case, case.shown(confidence), class_count) for case in cases])
    overlaps, distances = overlaps.reshape(-1, class_count, 2), distances.reshape(-1, class_count, 2)
    shown = np.array([(~case.ignored[: case.shown(confidence)]).sum() for case in cases], np.int64)
    hits = np.array([(case.matched[: case.shown(confidence)] >= 0).sum() for case in cases], np.int64)
    instances = np.array([len(case.truth) for case in cases], np.int64)
    return Measurement(
        *np.moveaxis(overlaps, 2, 0), *np.moveaxis(distances, 2, 0), hits, shown - hits, instances - hits
    )


def overlaps_of(case: Case, shown: int, class_count: int) -> np.ndarray:
    """(K, 2) Dice and IoU with the first `shown` detections."""
    result = np.full((class_count, 2), np.nan)
    for class_id in np.union1d(case.truth_classes, case.classes[:shown]):
        both = overlap(*case.regions(shown, class_id))
        result[class_id - 1] = both.dice, both.iou
    return result


def _distances_of(case: Case, shown: int, class_count: int) -> np.ndarray:
    """(K, 2) HD95 in pixels and in millimetres."""
    result = np.full((class_count, 2), np.nan)
    for class_id in np.intersect1d(case.truth_classes, case.classes[:shown]):
        truth, predicted = (surface_points(region) for region in case.regions(shown, class_id))
        pixels = hausdorff95(truth, predicted)
        result[class_id - 1, 0] = pixels
        if case.spacing_mm is not None:
            row, column = case.spacing_mm
            square = row == column
            result[class_id - 1, 1] = pixels * row if square else hausdorff95(truth, predicted, (row, column))
    return result


def class_means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of `values` (I, K) over the images where they are defined, once for each row of `weights` (B, I): (B, K),
    NaN where no image counts."""
    return ratio(weights @ np.nan_to_num(values), weights @ ~np.isnan(values))


def mean_over_classes(values: np.ndarray) -> np.ndarray:
    """(…, K) → (…): mean over the classes that are defined, NaN if none is."""
    return ratio(np.nan_to_num(values).sum(axis=-1), (~np.isnan(values)).sum(axis=-1))
