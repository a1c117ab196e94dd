"""Precision, recall, F1 and detection rate at one confidence threshold."""

from __future__ import annotations

import numpy as np


def operating_point(
    true_positives: np.ndarray, false_positives: np.ndarray, misses: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Scores over all images and classes together, once for each row of `weights`.

    `detection_rate` is the share of images with instances in which every instance was found; false positives do
    not lower it. False positives in images without instances lower the precision. Undefined values are NaN:
    precision without detections, recall and detection rate without instances, F1 with neither.

    Args:
        true_positives, false_positives, misses: (I,) counts per image.
        weights: (B, I) how often each image counts.

    Returns:
        (B,) each of `precision`, `recall`, `f1`, `detection_rate`.
    """
    hits, false, missed = weights @ true_positives, weights @ false_positives, weights @ misses
    with_instances = true_positives + misses > 0
    complete = with_instances & (misses == 0)
    return {
        "precision": ratio(hits, hits + false),
        "recall": ratio(hits, hits + missed),
        "f1": ratio(2 * hits, 2 * hits + false + missed),
        "detection_rate": ratio(weights @ complete, weights @ with_instances),
    }


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where `whole` is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) != 0)


GRID = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""0.05, 0.10 … 0.95."""
UNDECIDED = 0.5


def best_threshold(values: np.ndarray) -> float:
    """The threshold of `GRID` with the highest of `values` (19,).

    Equal best values make plateaus; the answer is the middle of the longest (the first of equally long ones, the lower
    of two middles), farthest from where the score falls off. NaN, where nothing is there to score, is never best;
    `UNDECIDED` if all are NaN.
    """
    if np.isnan(values).all():
        return UNDECIDED
    best = np.flatnonzero(values >= np.nanmax(values) - 1e-9)
    plateaus = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    longest = max(plateaus, key=len)
    return GRID[longest[(len(longest) - 1) // 2]]
