"""Count which class is detected as which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrcnn.metrics.case import Case
from mrcnn.metrics.matching import match
from mrcnn.rle import ious


def confusion_matrix(cases: Sequence[Case], confidence: float, class_count: int) -> np.ndarray:
    """Count the instances of each class by the class of the detection that matches them.

    Detections of at least `confidence` are matched with instances of their class first (`matching.match`, mask IoU of
    at least 0.5), so the diagonal holds the true positives. The remaining detections, best score first, are then
    matched with the remaining instances of any class by the same rule. A detection in a crowd that matches nothing is
    ignored. An image without instances contributes its false positives.

    Returns:
        (K + 1, K + 1) int64: rows are true classes and last the detections without an instance (false positives);
        columns are detected classes and last the instances without a detection (misses). The last cell is 0.

    Example:
        A square of class 1 that is detected as class 2, and a square of class 2 that is missed.

        >>> from mrcnn.data.sample import Sample
        >>> from mrcnn.detections import Detections
        >>> from mrcnn.metrics.case import make_case
        >>> masks = np.zeros((2, 6, 6), bool)
        >>> masks[0, :3, :3] = masks[1, 4:, 4:] = True
        >>> sample = Sample(np.zeros((6, 6, 1), np.uint8), masks, np.array([1, 2], np.int32), "anna", "a.png")
        >>> box, scores = np.array([[0, 0, 3, 3]], np.float32), np.array([0.9], np.float32)
        >>> case = make_case(sample, Detections(box, scores, np.array([2], np.int32), masks[:1]), class_count=2)
        >>> confusion_matrix([case], 0.5, 2).tolist()
        [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    """
    matrix = np.zeros((class_count + 1, class_count + 1), np.int64)
    for case in cases:
        count = case.count_above(confidence)
        matched = case.matched[:count].copy()
        open_detections = np.flatnonzero((matched < 0) & ~case.ignored[:count])
        open_instances = np.setdiff1d(np.arange(len(case.truth)), matched)
        if len(open_detections) and len(open_instances):
            overlaps = ious([case.predicted[k] for k in open_detections], [case.truth[k] for k in open_instances])
            others = match(overlaps, np.ones(len(open_instances), int), np.ones(len(open_detections), int))
            matched[open_detections[others >= 0]] = open_instances[others[others >= 0]]
        for instance, class_id in zip(matched[matched >= 0], case.classes[:count][matched >= 0], strict=True):
            matrix[case.truth_classes[instance] - 1, class_id - 1] += 1
        for class_id in case.classes[:count][(matched < 0) & ~case.ignored[:count]]:
            matrix[class_count, class_id - 1] += 1
        for class_id in np.delete(case.truth_classes, matched[matched >= 0]):
            matrix[class_id - 1, class_count] += 1
    return matrix
