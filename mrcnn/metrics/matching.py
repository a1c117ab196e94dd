"""Which detection found which instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from mrcnn.metrics.rle import Rle

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


@dataclass(frozen=True)
class Overlap:
    """Pixels of the true region, of the predicted one, and of both at once."""

    truth: int
    predicted: int
    intersection: int

    @property
    def dice(self) -> float:
        """2|T∩P| / (|T|+|P|) (Dice 1945); NaN where both are empty, 0 where exactly one is."""
        total = self.truth + self.predicted
        return 2 * self.intersection / total if total else float("nan")

    @property
    def iou(self) -> float:
        """|T∩P| / |T∪P| (Jaccard 1912); NaN where both are empty, 0 where exactly one is."""
        union = self.truth + self.predicted - self.intersection
        return self.intersection / union if union else float("nan")


def overlap(truth: Sequence[Rle], predicted: Sequence[Rle]) -> Overlap:
    """Overlap of the union of `truth` with the union of `predicted`; either may hold no mask."""
    if not truth or not predicted:
        return Overlap(_union_area(truth), _union_area(predicted), 0)
    unions = [coco_mask.merge(list(truth)), coco_mask.merge(list(predicted))]
    both = coco_mask.merge(unions, intersect=True)
    return Overlap(*(int(pixels) for pixels in coco_mask.area([*unions, both])))


def _union_area(rles: Sequence[Rle]) -> int:
    return int(coco_mask.area(coco_mask.merge(list(rles)))) if rles else 0
