"""Compute precision, recall and F1 at one or at every confidence threshold, and choose the threshold."""

from __future__ import annotations

import numpy as np

GRID = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Candidate thresholds: 0.05, 0.10 … 0.95."""
DEFAULT_THRESHOLD = 0.5
"""Threshold when the data define no score."""


def operating_point(
    true_positives: np.ndarray, false_positives: np.ndarray, misses: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute precision, recall, F1 and detection rate, pooled over all images and classes.

    precision = TP / (TP + FP), recall = TP / (TP + FN), F1 = 2 TP / (2 TP + FP + FN) (van Rijsbergen 1979, chapter 7).
    `detection_rate` is the fraction of images with instances in which every instance was found; false positives do not
    change it. The counts are summed before the division (micro average).

    Images without instances contribute their false positives to the precision only. Undefined values are NaN: precision
    without detections, recall and detection rate without instances, F1 without both.

    Args:
        true_positives: (I,) matched instances per image.
        false_positives: (I,) unmatched detections per image.
        misses: (I,) unmatched instances per image.
        weights: (B, I) how often each image counts.

    Returns:
        (B,) float64 for each of `precision`, `recall`, `f1`, `detection_rate`.

    Example:
        Both instances of image 0 are found, and one of two in image 1, with a false positive.

        >>> scores = operating_point(np.array([2, 1]), np.array([0, 1]), np.array([0, 1]), np.ones((1, 2)))
        >>> {name: float(value[0]) for name, value in scores.items()}
        {'precision': 0.75, 'recall': 0.75, 'f1': 0.75, 'detection_rate': 0.5}
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


def confidence_curves(
    scores: np.ndarray, hits: np.ndarray, instances: int, thresholds: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute precision, recall and F1 at each confidence threshold, pooled over all images and classes.

    The formulas and the rules for undefined values are those of `operating_point`. A detection counts at a threshold if
    its score is at least as high.

    Args:
        scores: (D,) scores of all detections of all images.
        hits: (D,) bool, whether the detection matches an instance; see `matching.match`.
        instances: number of instances in all images.
        thresholds: (T,) confidence thresholds.

    Returns:
        (T,) float64 for each of `precision`, `recall`, `f1`.

    Example:
        Three instances; the detections are a hit, a false positive and a hit.

        >>> scores, hits = np.array([0.9, 0.8, 0.3]), np.array([True, False, True])
        >>> curves = confidence_curves(scores, hits, 3, np.array([0.2, 0.5, 0.95]))
        >>> {name: values.round(2).tolist() for name, values in curves.items()}
        {'precision': [0.67, 0.5, nan], 'recall': [0.67, 0.33, 0.0], 'f1': [0.67, 0.4, 0.0]}
    """
    shown = np.asarray(scores)[None, :] >= np.asarray(thresholds)[:, None]
    found, false = (shown & hits).sum(axis=1), (shown & ~hits).sum(axis=1)
    values = operating_point(found[None], false[None], instances - found[None], np.ones((1, 1)))
    return {name: values[name][0] for name in ("precision", "recall", "f1")}


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide elementwise; NaN where `denominator` is 0.

    Example:
        >>> ratio(np.array([1.0, 0.0]), np.array([4.0, 0.0])).tolist()
        [0.25, nan]
    """
    shape = np.shape(denominator)
    return np.divide(numerator, denominator, out=np.full(shape, np.nan), where=np.asarray(denominator) != 0)


def best_threshold(values: np.ndarray) -> float:
    """Return the threshold of `GRID` with the highest of `values` (19,).

    Equal maxima form plateaus: the result is the middle of the longest plateau (the first of equally long ones, the
    lower of two middles), which is farthest from a drop of the score. NaN values are never the best;
    `DEFAULT_THRESHOLD` if all are NaN.

    Example:
        >>> values = np.zeros(19)
        >>> values[9:12] = 0.8  # the thresholds 0.5, 0.55 and 0.6
        >>> best_threshold(values)
        0.55
    """
    if np.isnan(values).all():
        return DEFAULT_THRESHOLD
    best = np.flatnonzero(values >= np.nanmax(values) - 1e-9)
    plateaus = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    longest = max(plateaus, key=len)
    return GRID[longest[(len(longest) - 1) // 2]]
