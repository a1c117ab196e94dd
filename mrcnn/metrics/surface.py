"""Compute the robust Hausdorff distance (HD95) between the surfaces of two regions.

The definition is that of MONAI's `compute_hausdorff_distance(percentile=95)`. The surface of a region is the region
minus its erosion by the neighbors that share a side (4 in an image, 6 in a volume), including pixels at the image
border. Each surface pixel of one region has its distance to the nearest surface pixel of the other, center to center.
HD95 is the larger of the two directed 95th percentiles (linear interpolation). DeepMind's `surface-distance` also takes
the larger one; MedPy takes the percentile of both sets together, where a large surface can hide a small one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree

from mrcnn.rle import Rle, decode_cropped, merge

PERCENTILE = 95


def surface(mask: np.ndarray) -> np.ndarray:
    """Compute the pixels of `mask` that share a side with a pixel outside the mask or the array.

    Args:
        mask: bool array with any number of axes.

    Returns:
        bool array of the same shape.

    Example:
        >>> surface(np.ones((3, 4), bool)).astype(int)
        array([[1, 1, 1, 1],
               [1, 0, 0, 1],
               [1, 1, 1, 1]])
    """
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(mask.ndim):
        for neighbor in (slice(None, -2), slice(2, None)):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = neighbor
            inner &= padded[tuple(window)]
    return mask & ~inner


def surface_points(rles: Sequence[Rle]) -> np.ndarray:
    """Compute the surface pixels of the union of `rles`.

    Returns:
        (P, 2) float64 (row, column); (0, 2) for an empty union.

    Example:
        >>> from mrcnn.rle import encode
        >>> mask = np.zeros((1, 4, 4), bool)
        >>> mask[0, 1, 2:] = True
        >>> surface_points(encode(mask)).tolist()
        [[1.0, 2.0], [1.0, 3.0]]
    """
    if not rles:
        return np.zeros((0, 2))
    mask, corner = decode_cropped(merge(rles))
    return np.argwhere(surface(mask)).astype(np.float64) + corner


def hausdorff95(truth: np.ndarray, predicted: np.ndarray, spacing: Sequence[float] = (1.0, 1.0)) -> float:
    """Compute the HD95 of two sets of surface points, in the units of `spacing` (default: pixels).

    Nearest points come from a k-d tree: exact, and faster than a distance transform of the whole image.

    Args:
        truth: (P, 2) row and column, or (P, 3) slice, row and column.
        predicted: (Q, 2) or (Q, 3), likewise.
        spacing: pixel size along each axis; required for three axes.

    Returns:
        NaN if either set is empty.

    Example:
        >>> hausdorff95(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]))
        5.0
        >>> hausdorff95(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]), spacing=(2.0, 2.0))
        10.0
    """
    if not len(truth) or not len(predicted):
        return float("nan")
    truth, predicted = truth * spacing, predicted * spacing
    to_truth, _ = KDTree(truth).query(predicted)
    to_predicted, _ = KDTree(predicted).query(truth)
    return float(max(np.percentile(to_truth, PERCENTILE), np.percentile(to_predicted, PERCENTILE)))
