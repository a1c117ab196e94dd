"""Measure and correct the calibration of probabilities.

An item is an image, with the probability of the positive class, or a detection, with its score and whether it matches
an instance.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from mrcnn.metrics.operating_point import ratio

BINS = 10
"""Number of equal-width bins for the expected calibration error and the reliability diagram."""


def brier(positive: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the Brier score, the mean squared difference of probability and label (Brier 1950): (B,) float64.

    Labels `positive` are (I,) bool, probabilities (I,) and weights (B, I), how often each image counts.

    Example:
        >>> brier(np.array([True, False]), np.array([0.8, 0.4]), np.ones((1, 2))).round(3).tolist()
        [0.1]
    """
    return ratio(weights @ np.square(probabilities - positive), weights.sum(axis=1))


def expected_calibration_error(positive: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the expected calibration error (Naeini et al. 2015, equation 3).

    The mean over `BINS` equal-width bins of |mean probability − fraction of positives|, weighted by the items per bin.
    For detections it compares the mean score of a bin with its precision (Küppers et al. 2020, section 3.1). Arguments
    and result are as in `brier`.

    Example:
        Bin 0.8–0.9 has a mean probability of 0.85 and one positive of two; bin 0.1–0.2 has 0.1 and none of one.

        >>> positive, probabilities = np.array([True, False, False]), np.array([0.87, 0.83, 0.1])
        >>> expected_calibration_error(positive, probabilities, np.ones((1, 3))).round(3).tolist()
        [0.267]
    """
    member = _membership(probabilities)
    gap = np.abs(weights @ (member * (probabilities - positive)[:, None]))
    return ratio(gap.sum(axis=1), weights.sum(axis=1))


def reliability(positive: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the reliability diagram (Niculescu-Mizil & Caruana 2005, section 4).

    Returns:
        Mean probability, fraction of positives and number of items of each non-empty bin, in ascending order.

    Example:
        >>> mean, share, counts = reliability(np.array([True, False, False]), np.array([0.87, 0.83, 0.1]))
        >>> mean.round(2).tolist(), share.tolist(), counts.tolist()
        ([0.1, 0.85], [0.0, 0.5], [1, 2])
    """
    member = _membership(probabilities)
    counts = member.sum(axis=0)
    used = counts > 0
    mean, share = (values @ member[:, used] / counts[used] for values in (probabilities, positive.astype(np.float64)))
    return mean, share, counts[used].astype(np.int64)


def fit_platt(positive: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """Fit Platt scaling, expit(slope · logit + intercept), by maximum likelihood (Platt 1999, section 2.2).

    Temperature scaling (Guo et al. 2017) is the special case without an intercept. The intercept corrects for training
    batches that are balanced between both classes. Platt's targets, (N₊ + 1) / (N₊ + 2) and 1 / (N₋ + 2), keep the
    slope finite for separable classes.

    Returns:
        slope > 0 and intercept; (1, 0) if a class is missing, or if higher logits do not predict the positive class.

    Example:
        >>> slope, intercept = fit_platt(np.array([False, False, True, True]), np.array([-2.0, -1.0, 1.0, 2.0]))
        >>> round(slope, 2), round(abs(intercept), 2)
        (0.67, 0.0)
    """
    count = int(positive.sum())
    if not 0 < count < len(positive):
        return 1.0, 0.0
    targets = np.where(positive, (count + 1) / (count + 2), 1 / (len(positive) - count + 2))
    scale = max(float(np.std(logits)), 1e-6)  # both parameters are about 1 for the optimizer

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        value = parameters[0] * logits / scale + parameters[1]
        error = expit(value) - targets
        gradient = np.array([(error * logits / scale).mean(), error.mean()])
        return float((np.logaddexp(0, value) - targets * value).mean()), gradient

    slope, intercept = minimize(loss, np.array([scale, 0.0]), jac=True, method="BFGS").x
    return (float(slope / scale), float(intercept)) if slope > 0 else (1.0, 0.0)


def apply_platt(logits: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Compute calibrated probabilities (I,) with the parameters of `fit_platt`.

    Example:
        >>> apply_platt(np.array([0.0, 2.0]), 0.5, -1.0).round(3).tolist()
        [0.269, 0.5]
    """
    return expit(slope * logits + intercept)


def log_loss(positive: np.ndarray, probabilities: np.ndarray) -> float:
    """Compute the mean cross-entropy in nats; probabilities of the true class are clipped at 1e-7.

    Example:
        >>> round(log_loss(np.array([True, False]), np.array([0.8, 0.4])), 3)
        0.367
    """
    of_truth = np.where(positive, probabilities, 1 - probabilities)
    return float(-np.log(np.clip(of_truth, 1e-7, 1)).mean())


def _membership(probabilities: np.ndarray) -> np.ndarray:
    """Compute (I, BINS) float64, 1 where the item's probability is in the bin; the last bin includes 1."""
    bins = np.minimum((np.asarray(probabilities) * BINS).astype(int), BINS - 1)
    return (bins[:, None] == np.arange(BINS)).astype(np.float64)
