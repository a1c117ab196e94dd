"""Which detection found which instance."""

from __future__ import annotations

import numpy as np

MATCH_IOU = 0.5
"""Mask IoU from which a detection counts as having found an instance of its class."""


def match(ious: np.ndarray, truth_classes: np.ndarray, classes: np.ndarray, least_iou: float = MATCH_IOU) -> np.ndarray:
    """Greedy matching by score, that of COCOeval: each detection, best score first, takes the free instance of its
    class with the highest IoU of at least `least_iou`, the last one where several are equal.

    A detection's match does not depend on those of lower score, so one matching serves every confidence threshold.

    Args:
        ious: (D, G) IoU of detections, best score first, with instances.
        truth_classes: (G,) class ids of the instances.
        classes: (D,) class ids of the detections.

    Returns:
        (D,) int64: position of the instance found, -1 for a false positive.
    """
    free = np.where(classes[:, None] == truth_classes[None, :], ious, -1.0)
    matched = np.full(len(classes), -1, np.int64)
    for row in np.flatnonzero((free >= least_iou).any(axis=1)):
        best = free.shape[1] - 1 - int(np.argmax(free[row, ::-1]))
        if free[row, best] >= least_iou:
            matched[row] = best
            free[:, best] = -1.0
    return matched
