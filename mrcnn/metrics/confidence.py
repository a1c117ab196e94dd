"""The working threshold: which confidence to show detections from."""

from __future__ import annotations

import numpy as np

GRID = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""0.05, 0.10 … 0.95."""
UNDECIDED = 0.5


def middle_of_best(values: np.ndarray) -> float:
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
