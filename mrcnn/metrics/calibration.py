"""Whether probabilities mean what they say, and how to make them."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from mrcnn.metrics.operating_point import ratio

BINS = 10
"""Of equal width, for the expected calibration error and the reliability diagram."""


def brier(positive: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) mean squared difference of probability and truth (Brier 1950), for weights (B, I); NaN without images."""
    return ratio(weights @ np.square(probabilities - positive), weights.sum(axis=1))


def expected_calibration_error(positive: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) |mean probability − share of positives| of each of `BINS` bins, weighted by the images in it (Naeini et al.
    2015, equation 3), for weights (B, I)."""
    member = _membership(probabilities)
    gap = np.abs(weights @ (member * (probabilities - positive)[:, None]))
    return ratio(gap.sum(axis=1), weights.sum(axis=1))


def reliability(positive: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability, share of positives and number of images of each bin that has any, from low to high."""
    member = _membership(probabilities)
    counts = member.sum(axis=0)
    used = counts > 0
    mean, share = (values @ member[:, used] / counts[used] for values in (probabilities, positive.astype(np.float64)))
    return mean, share, counts[used].astype(np.int64)


def fit_platt(positive: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """Slope > 0 and intercept for which expit(slope · logit + intercept) fits best (Platt 1999, section 2.2).

    Temperature scaling (Guo et al. 2017) is the case without intercept. The intercept is what puts right that training
    images are drawn evenly from both kinds, and others are not. Platt's targets, (N₊ + 1) / (N₊ + 2) and 1 / (N₋ + 2),
    keep the slope finite where the kinds are parted completely. (1, 0) where a kind is missing, or where higher logits
    do not mean more positives.
    """
    count = int(positive.sum())
    if not 0 < count < len(positive):
        return 1.0, 0.0
    targets = np.where(positive, (count + 1) / (count + 2), 1 / (len(positive) - count + 2))
    scale = max(float(np.std(logits)), 1e-6)  # so that both unknowns are about 1

    def loss(unknowns: np.ndarray) -> tuple[float, np.ndarray]:
        value = unknowns[0] * logits / scale + unknowns[1]
        error = expit(value) - targets
        gradient = np.array([(error * logits / scale).mean(), error.mean()])
        return float((np.logaddexp(0, value) - targets * value).mean()), gradient

    slope, intercept = minimize(loss, np.array([scale, 0.0]), jac=True, method="BFGS").x
    return (float(slope / scale), float(intercept)) if slope > 0 else (1.0, 0.0)


def apply_platt(logits: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Probabilities (I,) as `fit_platt` made them fit."""
    return expit(slope * logits + intercept)


def log_loss(positive: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean cross-entropy in nats; a probability of 0 or 1 counts as one that differs from it by 1e-7."""
    of_truth = np.where(positive, probabilities, 1 - probabilities)
    return float(-np.log(np.clip(of_truth, 1e-7, 1)).mean())


def _membership(probabilities: np.ndarray) -> np.ndarray:
    """(I, BINS) 1 where the image's probability lies in the bin; the last one includes 1."""
    bins = np.minimum((np.asarray(probabilities) * BINS).astype(int), BINS - 1)
    return (bins[:, None] == np.arange(BINS)).astype(np.float64)
