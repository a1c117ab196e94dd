"""How bright a nodule is against the tissue around it: our heuristic, set beside what its class says.

The measure is the median grey of the nodule's core over that of a ring around it, which holds no other nodule. Grey
levels of an ultrasound picture are compressed logarithms, so the ratio depends on the scanner's gain and dynamic range,
and the ring may hold muscle, vessels or air beside thyroid tissue. So the bands are wide, and a band that could be two
things brings the points of both.
"""

from __future__ import annotations

import re

import numpy as np
from scipy import ndimage

from experiments.findings.tirads import Points, unknown

BANDS = (
    (0.2, 0, 3, "anechoic or very hypoechoic"),
    (0.5, 2, 3, "hypoechoic or very hypoechoic"),
    (0.7, 2, 2, "hypoechoic"),
    (0.9, 1, 2, "isoechoic or hypoechoic"),
    (np.inf, 1, 1, "isoechoic or hyperechoic"),
)
"""Ratio below which, points from and to, in words. Set on readers' labels of 44 nodules of the thyroid seed set: the
ratio is 0.76 to 1.50 in isoechoic and 0.41 to 0.97 in hypoechoic ones (5 to 95 %)."""
CLASSES = (
    (r"an-?echo", 0, 0, "anechoic"),
    (r"very.?h[yi]po", 3, 3, "very hypoechoic"),
    (r"h[yi]po", 2, 3, "hypoechoic"),  # readers who have no class for very hypoechoic nodules call them this too
    (r"iso|hyper|hiper", 1, 1, "isoechoic or hyperechoic"),
)
"""Pattern in a class's name, points from and to, in words."""

_RING = 0.25  # width of the ring, as a share of the diameter of the circle of the nodule's area
_GAP = 0.04  # of the same, left out on both sides of the outline, where the two tissues blur
_LEAST_PIXELS = 20


def echogenicity_points(image: np.ndarray, mask: np.ndarray, others: np.ndarray, class_name: str) -> Points:
    """Points that agree with both the image and the class; where these disagree, the points of both.

    Args:
        image: (H, W) or (H, W, C).
        mask: (H, W) bool.
        others: (H, W) bool, pixels of other nodules.
        class_name: of the nodule.
    """
    ratio = grey_ratio(image, mask, others)
    seen = None if ratio is None else next(band[1:] for band in BANDS if ratio < band[0])
    said = next((each[1:] for each in CLASSES if re.search(each[0], class_name.lower())), None)
    if seen is None and said is None:
        return unknown("echogenicity")
    if seen is None or said is None:
        return Points(*(seen or said)[:2], "measured" if seen else "class", (seen or said)[2])
    low, high = max(seen[0], said[0]), min(seen[1], said[1])
    if low <= high:
        return Points(low, high, "class and measured", said[2])
    return Points(
        min(seen[0], said[0]), max(seen[1], said[1]), "class and measured", f"class {said[2]}, image {seen[2]}"
    )


def grey_ratio(image: np.ndarray, mask: np.ndarray, others: np.ndarray) -> float | None:
    """Median grey in the core of a nodule over that in the ring around it; None where either has too few pixels.

    The darkest value of the image counts as black.
    """
    diameter = 2 * np.sqrt(np.count_nonzero(mask) / np.pi)
    gap, ring = max(_GAP * diameter, 1.0), max(_RING * diameter, 3.0)
    reach = int(np.ceil(gap + ring)) + 1
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    part = np.s_[max(rows[0] - reach, 0) : rows[-1] + reach + 1, max(columns[0] - reach, 0) : columns[-1] + reach + 1]
    inside = mask[part]
    outside = ndimage.distance_transform_edt(~inside)
    # Padded, so that a nodule cut by the image's border is eroded there too.
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    around = (outside > gap) & (outside <= gap + ring) & ~others[part]
    core = depth > min(gap, depth.max() / 2)
    if min(np.count_nonzero(core), np.count_nonzero(around)) < _LEAST_PIXELS:
        return None
    grey = np.asarray(image, np.float64)
    grey = grey.mean(axis=2) if grey.ndim == 3 else grey
    black = grey.min() if image.dtype != np.uint8 else 0.0
    tissue = float(np.median(grey[part][around]) - black)
    return float(np.median(grey[part][core]) - black) / tissue if tissue > 0 else None
