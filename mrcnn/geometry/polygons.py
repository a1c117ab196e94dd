"""Convert masks to COCO polygons."""

from __future__ import annotations

import numpy as np
from skimage.measure import approximate_polygon, find_contours

_TOLERANCE = 0.35  # largest distance in pixels of a polygon from the traced border


def mask_to_polygons(mask: np.ndarray, top: int = 0, left: int = 0) -> list[list[float]]:
    """Return a COCO polygon [x, y, x, y, …] in image pixels for each connected component of a mask (H, W) bool.

    Holes are filled and corners are cut by up to half a pixel. Run-length encodings are exact.

    Args:
        mask: (H, W) bool.
        top: image row of the mask's first row.
        left: image column of the mask's first column.

    Example:
        >>> [polygon] = mask_to_polygons(np.ones((2, 3), bool), top=10, left=20)
        >>> min(polygon[0::2]), min(polygon[1::2]), max(polygon[0::2]), max(polygon[1::2])
        (20.0, 10.0, 23.0, 12.0)
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
        # The contours of holes have the opposite orientation.
        if len(corners) >= 3 and np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) > 0:
            # Pixel centers are integers for skimage and halves here; the padding is one pixel.
            found.append(np.round(corners + np.array([left - 0.5, top - 0.5]), 2).ravel().tolist())
    return found
