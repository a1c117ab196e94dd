"""Size of a structure from its mask: diameters, height, width and area, in millimetres or in pixels.

Convention: a pixel is an area, not a point. A mask of one pixel of 1 × 1 mm is 1 mm wide, 1 mm high, and √2 mm long
from corner to corner. Measured are the corners of the pixels, placed in millimetres before anything is computed, so
that pixels need not be square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

Spacing = tuple[float, float]


@dataclass(frozen=True)
class Measures:
    """Lengths in millimetres (pixels where no spacing was given), area in their square.

    Attributes:
        longest: the longest diameter (largest Feret diameter) of the outline.
        perpendicular: the longest chord of the outline's convex hull at a right angle to it.
        height, width: extent along the columns and along the rows of the image.
        area: of the mask's pixels.
    """

    longest: float
    perpendicular: float
    height: float
    width: float
    area: float


def main_piece(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: the largest piece of a mask (pixels that touch at a corner belong together), its holes filled."""
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    if count > 1:
        mask = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    return ndimage.binary_fill_holes(mask)


def measure(mask: np.ndarray, spacing: Spacing | None = None) -> Measures:
    """Sizes of a mask's main piece.

    Args:
        mask: (H, W) bool with at least one pixel.
        spacing: (row, column) size of a pixel in mm; None measures in pixels.
    """
    row, column = spacing or (1.0, 1.0)
    mask = main_piece(mask)
    hull = hull_corners(mask, (row, column))
    distances = squareform(pdist(hull))
    first, last = np.unravel_index(np.argmax(distances), distances.shape)
    width, height = np.ptp(hull, axis=0)
    return Measures(
        longest=float(distances[first, last]),
        perpendicular=_chord_across(hull, hull[last] - hull[first]),
        height=float(height),
        width=float(width),
        area=float(np.count_nonzero(mask) * row * column),
    )


def hull_corners(mask: np.ndarray, spacing: Spacing) -> np.ndarray:
    """(P, 2) corners (x, y) of the convex hull of a mask's pixels as areas, in the order around it."""
    rows, columns = np.nonzero(mask)
    # Of each row the outer pixels are enough.
    used, start = np.unique(rows, return_index=True)
    left, right = columns[start], np.append(columns[start[1:] - 1], columns[-1]) + 1
    x = np.concatenate([left, left, right, right])
    y = np.concatenate([used, used + 1, used, used + 1])
    points = np.stack([x * spacing[1], y * spacing[0]], axis=1).astype(np.float64)
    return points[ConvexHull(points).vertices]


def _chord_across(hull: np.ndarray, axis: np.ndarray) -> float:
    """The longest chord of a convex polygon (P, 2) at a right angle to `axis`.

    The chord's length changes linearly between corners, so the longest one starts at a corner.
    """
    along = axis / np.hypot(*axis)
    u, v = hull @ along, hull @ np.array([-along[1], along[0]])
    ends_u, ends_v = np.roll(u, -1), np.roll(v, -1)
    longest = 0.0
    for place in u:
        crossing = (np.minimum(u, ends_u) <= place) & (place <= np.maximum(u, ends_u))
        step = ends_u[crossing] - u[crossing]
        share = np.divide(place - u[crossing], step, out=np.zeros_like(step), where=step != 0)
        heights = v[crossing] + share * (ends_v[crossing] - v[crossing])
        # An edge that lies across is its own chord: both of its ends count.
        heights = np.concatenate([heights, v[u == place]])
        longest = max(longest, float(np.ptp(heights)))
    return longest
