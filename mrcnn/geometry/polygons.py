"""Masks as polygons, for whoever cannot read run lengths."""

from __future__ import annotations

import numpy as np
from skimage.measure import approximate_polygon, find_contours

_TOLERANCE = 0.35  # pixels that a polygon may stray from the traced border


def mask_to_polygons(mask: np.ndarray, top: int = 0, left: int = 0) -> list[list[float]]:
    """COCO's polygons [x, y, x, y, …] around each piece of a (H, W) bool mask, in pixels from the image's corner.

    Holes are filled and corners cut by up to half a pixel; run lengths are exact.

    Args:
        top: row of the image in which the mask begins.
        left: its column.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return []
    piece = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1).astype(np.float32)
    top, left = top + rows[0], left + columns[0]
    found = []
    for border in find_contours(piece, 0.5):
        corners = approximate_polygon(border, _TOLERANCE)[:-1, ::-1]
        x, y = corners.T
        # Borders of holes run the other way around than those of pieces.
        if len(corners) >= 3 and np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) > 0:
            # Pixel centres are whole numbers there and halves here, and the padding is one pixel.
            found.append(np.round(corners + np.array([left - 0.5, top - 0.5]), 2).ravel().tolist())
    return found
