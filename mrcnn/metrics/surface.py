"""Robust Hausdorff distance (HD95) between the surfaces of two regions.

Definition, that of MONAI's `compute_hausdorff_distance(percentile=95)`: a region's surface is the region minus its
erosion by the 4-neighbourhood, pixels at the border of the image included; each surface pixel of one region has its
distance to the nearest surface pixel of the other, centre to centre; HD95 is the larger of the two directed 95th
percentiles (linear interpolation). DeepMind's `surface-distance` also takes the larger of the two, MedPy the percentile
of both sets together, which lets a large surface hide a small one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask
from scipy.spatial import KDTree

from mrcnn.metrics.rle import Rle, decode_cropped

PERCENTILE = 95


def surface(mask: np.ndarray) -> np.ndarray:
    """Pixels of `mask` (H, W) bool that have a 4-neighbour outside of it; outside of the array is outside: (H, W)."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def surface_points(rles: Sequence[Rle]) -> np.ndarray:
    """(row, column) of the surface pixels of the union of `rles`: (P, 2) float64, none for an empty union."""
    if not rles:
        return np.zeros((0, 2))
    mask, corner = decode_cropped(coco_mask.merge(list(rles)))
    return np.argwhere(surface(mask)).astype(np.float64) + corner


def hausdorff95(truth: np.ndarray, predicted: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    """HD95 of two sets of surface points, in the units of `spacing` (pixels by default); NaN where either is empty.

    Nearest points come from a k-d tree: exact, and faster than a distance transform of the image, of which
    the surfaces are a small part.

    Args:
        truth: (P, 2) float, row and column.
        predicted: (Q, 2) float, row and column.
        spacing: size of a pixel along rows and columns.
    """
    if not len(truth) or not len(predicted):
        return float("nan")
    truth, predicted = truth * spacing, predicted * spacing
    to_truth, _ = KDTree(truth).query(predicted)
    to_predicted, _ = KDTree(predicted).query(truth)
    return float(max(np.percentile(to_truth, PERCENTILE), np.percentile(to_predicted, PERCENTILE)))
