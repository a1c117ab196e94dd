"""Measure diameters, height, width and area of a mask, in millimeters or in pixels.

A pixel is an area, not a point: a mask of one pixel of 1 × 1 mm is 1 mm wide, 1 mm high, and √2 mm long from corner to
corner. The corners of the pixels are converted to millimeters first, so pixels need not be square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from mrcnn.instance_masks import Crop

Spacing = tuple[float, float]


@dataclass(frozen=True)
class Measures:
    """Lengths in millimeters, or in pixels without spacing, and the area in their square.

    Attributes:
        longest: the longest diameter (largest Feret diameter) of the outline.
        perpendicular: the longest chord of the convex hull at a right angle to it.
        height, width: extent along the columns and along the rows of the image.
        area: of the mask's pixels.
    """

    longest: float
    perpendicular: float
    height: float
    width: float
    area: float


def main_component(mask: np.ndarray) -> np.ndarray:
    """Return the largest 8-connected component of a mask (H, W) bool with its holes filled."""
    component = np.zeros(mask.shape, bool)
    crop = Crop(0, 0, mask).tight()  # filling takes a pass of all pixels for each pixel of distance from the border
    labels, count = label_components(crop.pixels, np.ones((3, 3)))
    largest = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1 if count > 1 else crop.pixels
    component[crop.slices] = ndimage.binary_fill_holes(largest)
    return component


def label_components(mask: np.ndarray, structure: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """Label the connected components of a mask from 1; return the labels and their count."""
    labels = np.zeros(mask.shape, np.int32)
    count = ndimage.label(mask, structure, output=labels)
    assert isinstance(count, int)  # with `output` only the count is returned
    return labels, count


def distance_to_background(mask: np.ndarray) -> np.ndarray:
    """Compute the Euclidean distance of each pixel of a mask to the nearest pixel outside."""
    return np.asarray(ndimage.distance_transform_edt(mask))


def measure(mask: np.ndarray, spacing: Spacing | None = None) -> Measures:
    """Measure the largest component of a mask.

    Args:
        mask: (H, W) bool with at least one pixel.
        spacing: (row, column) size of a pixel in mm; None measures in pixels.
    """
    row, column = spacing or (1.0, 1.0)
    mask = main_component(mask)
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
    """Compute the (P, 2) corners (x, y) of the convex hull of the pixels as areas, in order around it."""
    rows, columns = np.nonzero(mask)
    # The outer pixels of each row suffice.
    used, start = np.unique(rows, return_index=True)
    left, right = columns[start], np.append(columns[start[1:] - 1], columns[-1]) + 1
    x = np.concatenate([left, left, right, right])
    y = np.concatenate([used, used + 1, used, used + 1])
    points = np.stack([x * spacing[1], y * spacing[0]], axis=1).astype(np.float64)
    return points[ConvexHull(points).vertices]


def _chord_across(hull: np.ndarray, axis: np.ndarray) -> float:
    """Compute the longest chord of a convex polygon (P, 2) at a right angle to `axis`.

    The length changes linearly between corners, so the longest chord starts at a corner.
    """
    along = axis / np.hypot(*axis)
    u, v = hull @ along, hull @ np.array([-along[1], along[0]])
    ends_u, ends_v = np.roll(u, -1), np.roll(v, -1)
    place, step = u[:, None], ends_u - u
    crossing = (np.minimum(u, ends_u) <= place) & (place <= np.maximum(u, ends_u))  # corners × edges
    share = np.divide(place - u, step, out=np.zeros(crossing.shape), where=step != 0)
    # An edge at a right angle is a chord itself: its ends begin two edges.
    heights = v + share * (ends_v - v)
    ends = np.where(crossing, heights, -np.inf).max(axis=1), np.where(crossing, heights, np.inf).min(axis=1)
    return float((ends[0] - ends[1]).max())
