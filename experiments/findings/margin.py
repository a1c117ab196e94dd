"""Whether the outline of a nodule is smooth, from its mask: our heuristic, not the paper's.

The measure is the share of the convex hull that the outline leaves out: 0 for an ellipse of any size, tilt and pixel
shape, and the larger, the deeper the notches between lobules or spicules. On drawn outlines of 20 to 160 pixels across,
ellipses reach 0.025, four lobules of ±12 % of the radius 0.03–0.05, five of ±20 % 0.13, and spicules 0.07–0.26.
A network's mask is smoother than the nodule, since it is drawn on a coarse grid: what it shows as irregular is, what it
shows as smooth need not be. Extrathyroidal extension cannot be seen in a mask.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull
from skimage.measure import find_contours

from experiments.findings.measures import main_piece
from experiments.findings.tirads import Points, unknown

SMOOTH_BELOW = 0.03
IRREGULAR_FROM = 0.06
LEAST_PIXELS = 250
"""On smaller masks the steps between pixels weigh as much as lobules do."""


def margin_points(mask: np.ndarray) -> Points:
    """Smooth 0; lobulated or irregular 2, or 3 since it may be an extension beyond the thyroid; in between 0 to 3."""
    piece = main_piece(mask)
    if np.count_nonzero(piece) < LEAST_PIXELS:
        return unknown("margin")
    left_out = hull_deficit(piece)
    if left_out < SMOOTH_BELOW:
        return Points(0, 0, "measured", "smooth")
    if left_out < IRREGULAR_FROM:
        return Points(0, 3, "measured", "between smooth and irregular")
    return Points(2, 3, "measured", "lobulated or irregular")


def hull_deficit(piece: np.ndarray) -> float:
    """Share of the convex hull of a piece's outline that lies outside the outline.

    The outline runs midway between pixels inside and outside, which cuts off the corners of the pixels.
    """
    outline = max(find_contours(np.pad(piece, 1).astype(np.float64), 0.5), key=len)[:-1]
    y, x = outline.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    return float(1 - area / ConvexHull(outline).volume)  # of a polygon, `volume` is the area
