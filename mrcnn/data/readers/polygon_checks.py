"""Check polygons of annotations."""

from __future__ import annotations

import numpy as np
import shapely


def self_intersects(corners: np.ndarray) -> bool:
    """Check whether the closed polygon through corners (N, 2) intersects or touches itself."""
    return not shapely.is_simple(shapely.LinearRing(corners))
