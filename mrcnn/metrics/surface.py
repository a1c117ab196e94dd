"""Robust Hausdorff distance (HD95) between the surfaces of two regions.

Definition, that of MONAI's `compute_hausdorff_distance(percentile=95)`: a region's surface is the region minus its
erosion by the neighbours that share a side (4 in an image, 6 in a volume), pixels at the border of the image included;
each surface pixel of one region has its distance to the nearest surface pixel of the other, centre to centre; HD95 is
the larger of the two directed 95th percentiles (linear interpolation). DeepMind's `surface-distance` also takes the
larger of the two, MedPy the percentile of both sets together, which lets a large surface hide a small one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask
from scipy.spatial import KDTree

from mrcnn.metrics.rle import Rle, decode_cropped

PERCENTILE = 95


def surface(mask: np.ndarray) -> np.ndarray:
    """Pixels of `mask` (…) bool, of any number of axes, beside one outside of it; beyond the array is outside: (…)."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(mask.ndim):
        for beside in (slice(None, -2), slice(2, None)):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = beside
            inner &= padded[tuple(window)]
    return mask & ~inner


def surface_points(rles: Sequence[Rle]) -> np.ndarray:
    """(row, column) of the surface pixels of the union of `rles`: (P, 2) float64, none for an empty union."""
    if not rles:
        return np.zeros((0, 2))
    mask, corner = decode_cropped(coco_mask.merge(list(rles)))
    return np.argwhere(surface(mask)).astype(np.float64) + corner


def hausdorff95(truth: np.ndarray, predicted: np.ndarray, spacing: Sequence[float] = (1.0, 1.0)) -> float:
    """HD95 of two sets of surface points, in the units of `spacing` (pixels by default); NaN where either is empty.

    Nearest points come from a k-d tree: exact, and faster than a distance transform of the image, of which
    the surfaces are a small part.

    Args:
        truth: (P, 2) float, row and column, or (P, 3) with the slice before them.
        predicted: (Q, 2) or (Q, 3) likewise.
        spacing: size of a pixel along each of them; needed for three.
    """
    if not len(truth) or not len(predicted):
        return float("nan")
    truth, predicted = truth * spacing, predicted * spacing
    to_truth, _ = KDTree(truth).query(predicted)
    to_predicted, _ = KDTree(predicted).query(truth)
    return float(max(np.percentile(to_truth, PERCENTILE), np.percentile(to_predicted, PERCENTILE)))
