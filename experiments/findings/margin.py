"""Estimate whether the margin of a nodule is smooth by a heuristic on its mask.

The measure is the fraction of the convex hull outside the outline: 0 for an ellipse of any size, orientation and pixel
shape, and larger with deeper notches between lobules or spicules. On drawn outlines 20 to 160 pixels wide, ellipses
reach 0.025, four lobules of ±12 % of the radius 0.03–0.05, five of ±20 % 0.13, and spicules 0.07–0.26. The mask of a
network is smoother than the nodule because its grid is coarse: irregular masks are irregular nodules, but smooth masks
need not be smooth nodules. A mask does not show extrathyroidal extension.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull
from skimage.measure import find_contours

from experiments.findings.measures import main_component
from experiments.findings.tirads import Points, unknown

SMOOTH_BELOW = 0.03
IRREGULAR_FROM = 0.06
LEAST_PIXELS = 250
"""In smaller masks the steps between pixels are as large as lobules."""


def margin_points(mask: np.ndarray) -> Points:
    """Return 0 for smooth; 2 to 3 for lobulated or irregular, with possible extension; 0 to 3 between them."""
    component = main_component(mask)
    if np.count_nonzero(component) < LEAST_PIXELS:
        return unknown("margin")
    deficit = hull_deficit(component)
    if deficit < SMOOTH_BELOW:
        return Points(0, 0, "measured", "smooth")
    if deficit < IRREGULAR_FROM:
        return Points(0, 3, "measured", "between smooth and irregular")
    return Points(2, 3, "measured", "lobulated or irregular")


def hull_deficit(component: np.ndarray) -> float:
    """Compute the fraction of the convex hull outside the outline of a component.

    The outline is midway between pixels inside and outside.
    """
    outline = max(find_contours(np.pad(component, 1).astype(np.float64), 0.5), key=len)[:-1]
    y, x = outline.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    return float(1 - area / ConvexHull(outline).volume)  # `volume` of a polygon is the area
