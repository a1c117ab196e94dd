"""Outlines of annotations."""

from __future__ import annotations

import numpy as np
import shapely


def crosses_itself(corners: np.ndarray) -> bool:
    """Whether the closed outline through corners (N, 2) meets itself."""
    return not shapely.is_simple(shapely.LinearRing(corners))
