"""Detect radiographs with inverted gray levels (negatives) by their correlation with the mean radiograph.

A chest radiograph and its negative correlate with the mean of other chest radiographs with opposite signs; this
classifies all of 322 radiographs correctly. The mean is informative only if all show the same view, so it is used only
if it classifies the radiographs from which it was computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MODALITY = "xray"
"""Modality in which negatives are common."""
LEAST = 10
"""Minimum number of radiographs for a result."""
_SIDE = 8  # of the mean image in pixels: too coarse to identify a patient
_RELIABLE = 0.99  # minimum share of radiographs that correlate positively with the mean of the others
_ALIKE = 0.5  # minimum median correlation of radiographs of one view; 0.79 for the 322 chest radiographs
_DOUBTFUL = 0.05  # smaller absolute correlations are inconclusive; the smallest of the 322 is 0.12


def mean_film(thumbnails: np.ndarray) -> tuple[float, ...] | None:
    """Compute the mean radiograph of thumbnails (N, side, side); None if it does not classify them reliably."""
    films = _unit(thumbnails)
    films = films[films.any(axis=1)]
    if len(films) < LEAST:
        return None
    total = films.sum(axis=0)
    if ((films @ total - 1) > 0).mean() < _RELIABLE:  # correlation of each with the sum of the others
        return None
    return tuple(round(float(value), 4) for value in total / max(np.linalg.norm(total), 1e-9))


def find_negatives(thumbnails: np.ndarray, picture: Sequence[float]) -> np.ndarray:
    """Return (N,) bool: which radiographs have the opposite polarity of the mean radiograph `picture`."""
    return _unit(thumbnails) @ np.asarray(picture) < -_DOUBTFUL


def find_rarer_polarity(thumbnails: np.ndarray) -> np.ndarray:
    """Return the positions of the radiographs with the rarer polarity; none if they differ too much to decide."""
    films = _unit(thumbnails)
    if len(films) < LEAST:
        return np.zeros(0, np.int64)
    # The first principal axis separates positives from negatives.
    correlation = films @ np.linalg.svd(films, full_matrices=False)[2][0]
    if np.median(np.abs(correlation)) < _ALIKE:
        return np.zeros(0, np.int64)
    sides = [np.flatnonzero(correlation * sign > _DOUBTFUL) for sign in (1, -1)]
    return min(sides, key=len)


def _unit(thumbnails: np.ndarray) -> np.ndarray:
    """Return downsampled thumbnails (N, 64) with mean 0 and norm 1; constant images become 0."""
    count, side = len(thumbnails), thumbnails.shape[1] // _SIDE
    means = thumbnails.reshape(count, _SIDE, side, _SIDE, side).mean(axis=(2, 4)).reshape(count, _SIDE**2)
    means -= means.mean(axis=1, keepdims=True)
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
