"""Compute metrics of a binary image classifier, for each row of image weights.

Weights (B, I) give how often each image counts, as `intervals.bootstrap_intervals` draws them. A row of ones gives the
plain value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrcnn.metrics.calibration import brier, expected_calibration_error
from mrcnn.metrics.intervals import Statistic, bootstrap_intervals, interval_bounds
from mrcnn.metrics.operating_point import ratio


def auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the area under the ROC curve (Hanley & McNeil 1982).

    The fraction of pairs in which the positive image has the higher score; ties count half. Labels `positive` are (I,)
    bool, scores (I,). The result is (B,) float64; NaN if a class is missing.

    Example:
        Of the two pairs, one is ordered correctly and one is a tie.

        >>> auc(np.array([True, False, False]), np.array([0.6, 0.6, 0.2]), np.ones((1, 3))).tolist()
        [0.75]
    """
    if not len(scores):
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) != 0)
    of_positives = np.add.reduceat((weights * positive)[:, order], starts, axis=1)
    of_negatives = np.add.reduceat((weights * ~positive)[:, order], starts, axis=1)
    below = np.cumsum(of_negatives, axis=1) - of_negatives
    wins = (of_positives * (below + of_negatives / 2)).sum(axis=1)
    return ratio(wins, of_positives.sum(axis=1) * of_negatives.sum(axis=1))


def rates(positive: np.ndarray, called: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Compute `accuracy`, `sensitivity` TP / (TP + FN) and `specificity` TN / (TN + FP) (Yerushalmy 1947).

    Labels `positive` and predictions `called` are (I,) bool. Each result is (B,) float64; NaN where undefined.

    Example:
        >>> found = rates(np.array([True, True, False]), np.array([True, False, False]), np.ones((1, 3)))
        >>> {name: round(float(value[0]), 3) for name, value in found.items()}
        {'accuracy': 0.667, 'sensitivity': 0.5, 'specificity': 1.0}
    """
    return {
        "accuracy": ratio(weights @ (positive == called), weights.sum(axis=1)),
        "sensitivity": ratio(weights @ (positive & called), weights @ positive),
        "specificity": ratio(weights @ (~positive & ~called), weights @ ~positive),
    }


def youden_threshold(positive: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the threshold with the highest sensitivity + specificity (Youden 1950); for validation images only.

    The threshold is midway between the lowest probability above it and the highest below it. Of equally good ones, the
    lowest, which has the highest sensitivity; 0.5 if a class is missing.

    Example:
        >>> youden_threshold(np.array([False, False, True]), np.array([0.1, 0.2, 0.6]))
        0.4
    """
    if positive.all() or not positive.any():
        return 0.5
    levels = np.unique(probabilities)
    cuts = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2])
    called = probabilities[None] >= cuts[:, None]
    gain = called[:, positive].mean(axis=1) - called[:, ~positive].mean(axis=1)
    return float(cuts[np.argmax(gain >= gain.max() - 1e-12)])


def slice_scores(
    positive: np.ndarray, probabilities: np.ndarray, threshold: float, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute `auc`, `accuracy`, `sensitivity`, `specificity`, `brier` and `ece`, (B,) each.

    Example:
        >>> scores = slice_scores(np.array([True, False]), np.array([0.8, 0.4]), 0.5, np.ones((1, 2)))
        >>> {name: round(float(value[0]), 2) for name, value in scores.items()}
        {'auc': 1.0, 'accuracy': 1.0, 'sensitivity': 1.0, 'specificity': 1.0, 'brier': 0.1, 'ece': 0.3}
    """
    return {
        "auc": auc(positive, probabilities, weights),
        **rates(positive, probabilities >= threshold, weights),
        "brier": brier(positive, probabilities, weights),
        "ece": expected_calibration_error(positive, probabilities, weights),
    }


def with_intervals(
    statistic: Statistic, patient_ids: Sequence[str], resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Compute the defined values of `statistic`, and their 95 % intervals over patients as `<name>_lo` and `<name>_hi`.

    Arguments are those of `intervals.bootstrap_intervals`.

    Example:
        >>> scores = np.array([0.0, 1.0])
        >>> with_intervals(lambda weights: {"mean": weights @ scores / 2}, ["anna", "ben"], resamples=200, seed=0)
        ({'mean': 0.5}, {'mean_lo': 0.0, 'mean_hi': 1.0})
    """
    once = {name: float(value[0]) for name, value in statistic(np.ones((1, len(patient_ids)))).items()}
    values = {name: value for name, value in once.items() if not np.isnan(value)}
    return values, interval_bounds(bootstrap_intervals(statistic, patient_ids, resamples, seed))
