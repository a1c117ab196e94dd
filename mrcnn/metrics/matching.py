"""Match detections with instances, and measure the overlap of regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrcnn.rle import Rle, areas, merge

MATCH_IOU = 0.5
"""Lowest mask IoU at which a detection matches an instance of its class."""


def match(ious: np.ndarray, truth_classes: np.ndarray, classes: np.ndarray, least_iou: float = MATCH_IOU) -> np.ndarray:
    """Match detections greedily by score, as COCOeval (Lin et al. 2014) does.

    Each detection, best score first, is matched with the free instance of its class with the highest IoU of at least
    `least_iou`; the last one if several are equal. A match does not depend on detections of lower score, so one
    matching is valid for every confidence threshold.

    Args:
        ious: (D, G) IoU of detections, best score first, with instances.
        truth_classes: (G,) class ids of the instances.
        classes: (D,) class ids of the detections.
        least_iou: lowest IoU of a match.

    Returns:
        (D,) int64: index of the matched instance, -1 for a false positive.

    Example:
        The second detection has the higher IoU, but the instance is already matched.

        >>> match(np.array([[0.6], [0.9]]), np.array([1]), np.array([1, 1])).tolist()
        [0, -1]
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
    """Count the pixels of a true region T, of a predicted region P and of their intersection.

    Example:
        >>> both = Overlap(truth=4, predicted=6, intersection=3)
        >>> both.dice, round(both.iou, 3)
        (0.6, 0.429)
        >>> Overlap(0, 0, 0).dice, Overlap(0, 6, 0).dice
        (nan, 0.0)
    """

    truth: int
    predicted: int
    intersection: int

    @property
    def dice(self) -> float:
        """2|T∩P| / (|T|+|P|) (Dice 1945); NaN if both are empty, 0 if exactly one is."""
        total = self.truth + self.predicted
        return 2 * self.intersection / total if total else float("nan")

    @property
    def iou(self) -> float:
        """|T∩P| / |T∪P| (Jaccard 1912); NaN if both are empty, 0 if exactly one is."""
        union = self.truth + self.predicted - self.intersection
        return self.intersection / union if union else float("nan")


def overlap(truth: Sequence[Rle], predicted: Sequence[Rle]) -> Overlap:
    """Compute the overlap of the union of `truth` with the union of `predicted`; either may be empty.

    Example:
        >>> from mrcnn.rle import encode
        >>> masks = np.array([[[1, 1, 0]], [[0, 1, 1]]], bool)
        >>> overlap(encode(masks[:1]), encode(masks[1:]))
        Overlap(truth=2, predicted=2, intersection=1)
    """
    unions = [merge(rles) for rles in (truth, predicted) if rles]
    both = [merge(unions, intersect=True)] if len(unions) == 2 else []
    pixels = iter(areas([*unions, *both]).tolist())
    return Overlap(*(next(pixels) if each else 0 for each in (truth, predicted, both)))
