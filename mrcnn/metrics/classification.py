"""How well probabilities of a positive kind tell images apart, once for each row of image weights.

Weights (B, I) say how often each image counts, as `bootstrap.intervals` draws them; a row of ones is the plain value.
"""

from __future__ import annotations

import numpy as np

from mrcnn.metrics.calibration import brier, expected_calibration_error
from mrcnn.metrics.intervals import bootstrap_intervals
from mrcnn.metrics.operating_point import ratio


def auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) area under the ROC curve: how often a positive image scores above a negative one, ties counting half (Hanley
    & McNeil 1982); NaN where either kind is missing.

    Args:
        positive: (I,) bool; scores: (I,); weights: (B, I).
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
    """(B,) each of `accuracy`, `sensitivity` and `specificity` of calling images positive; NaN where undefined.

    Args:
        positive, called: (I,) bool; weights: (B, I).
    """
    return {
        "accuracy": ratio(weights @ (positive == called), weights.sum(axis=1)),
        "sensitivity": ratio(weights @ (positive & called), weights @ positive),
        "specificity": ratio(weights @ (~positive & ~called), weights @ ~positive),
    }


def youden_threshold(positive: np.ndarray, probabilities: np.ndarray) -> float:
    """The threshold with the greatest sensitivity + specificity (Youden 1950); for validation images only.

    It lies in the middle between the lowest probability called positive and the highest called negative. Of equally
    good ones the lowest, which misses least; 0.5 where a kind is missing.
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
    """(B,) each of `auc`, `accuracy`, `sensitivity`, `specificity`, `brier` and `ece`."""
    return {
        "auc": auc(positive, probabilities, weights),
        **rates(positive, probabilities >= threshold, weights),
        "brier": brier(positive, probabilities, weights),
        "ece": expected_calibration_error(positive, probabilities, weights),
    }


def with_intervals(statistic, patient_ids, resamples: int, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """The defined values of `statistic` (weights (B, I) → (B,) by name), and their 95 % intervals over patients as
    `<name>_lo` and `<name>_hi`; see `bootstrap.intervals`."""
    plain = {name: float(value[0]) for name, value in statistic(np.ones((1, len(patient_ids)))).items()}
    values = {name: value for name, value in plain.items() if not np.isnan(value)}
    found = bootstrap_intervals(statistic, patient_ids, resamples, seed)
    ends = {f"{name}{end}": pair[side] for name, pair in found.items() for side, end in enumerate(("_lo", "_hi"))}
    return values, ends
