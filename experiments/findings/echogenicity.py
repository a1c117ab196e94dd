"""Estimate the echogenicity of a nodule by a heuristic, and combine it with the class.

The measure is the ratio of the median gray level in the core of the nodule to that in a ring around it without other
nodules. Gray levels of an ultrasound image are compressed logarithms, so the ratio depends on gain and dynamic range,
and the ring can contain muscle, vessels or air. So the bands are wide, and an ambiguous band has the points of both.
"""

from __future__ import annotations

import re

import numpy as np

from experiments.findings.measures import distance_to_background
from experiments.findings.tirads import Points, unknown

BANDS = (
    (0.2, 0, 3, "anechoic or very hypoechoic"),
    (0.5, 2, 3, "hypoechoic or very hypoechoic"),
    (0.7, 2, 2, "hypoechoic"),
    (0.9, 1, 2, "isoechoic or hypoechoic"),
    (np.inf, 1, 1, "isoechoic or hyperechoic"),
)
"""Upper limit of the ratio, lowest and highest points, description. Set on the labels of 44 nodules of the thyroid seed
set: the ratio is 0.76 to 1.50 in isoechoic and 0.41 to 0.97 in hypoechoic ones (5 to 95 %)."""
CLASSES = (
    (r"an-?echo", 0, 0, "anechoic"),
    (r"very.?h[yi]po", 3, 3, "very hypoechoic"),
    (r"h[yi]po", 2, 3, "hypoechoic"),  # readers without a class for very hypoechoic nodules use this one too
    (r"iso|hyper|hiper", 1, 1, "isoechoic or hyperechoic"),
)
"""Pattern in the class name, lowest and highest points, description."""

_RING = 0.25  # width of the ring, as a fraction of the diameter of the circle with the area of the nodule
_GAP = 0.04  # fraction of the same that is ignored on both sides of the outline, where the tissues blur
_LEAST_PIXELS = 20


def echogenicity_points(image: np.ndarray, mask: np.ndarray, others: np.ndarray, class_name: str) -> Points:
    """Return the points that agree with image and class, or if these disagree the points of both.

    Args:
        image: (H, W) or (H, W, C).
        mask: (H, W) bool.
        others: (H, W) bool, pixels of other nodules.
        class_name: of the nodule.
    """
    ratio = gray_ratio(image, mask, others)
    seen = None if ratio is None else next(band[1:] for band in BANDS if ratio < band[0])
    said = next((each[1:] for each in CLASSES if re.search(each[0], class_name.lower())), None)
    if seen is None and said is None:
        return unknown("echogenicity")
    if seen is None or said is None:
        low, high, description = seen or said or (0, 0, "")
        return Points(low, high, "measured" if seen else "class", description)
    low, high = max(seen[0], said[0]), min(seen[1], said[1])
    if low <= high:
        return Points(low, high, "class and measured", said[2])
    return Points(
        min(seen[0], said[0]), max(seen[1], said[1]), "class and measured", f"class {said[2]}, image {seen[2]}"
    )


def gray_ratio(image: np.ndarray, mask: np.ndarray, others: np.ndarray) -> float | None:
    """Compute the ratio of the median gray level in the core of a nodule to that in a ring around it.

    None if either has too few pixels. The darkest value of the image counts as black.
    """
    diameter = 2 * np.sqrt(np.count_nonzero(mask) / np.pi)
    gap, ring = max(_GAP * diameter, 1.0), max(_RING * diameter, 3.0)
    reach = int(np.ceil(gap + ring)) + 1
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    part = np.s_[max(rows[0] - reach, 0) : rows[-1] + reach + 1, max(columns[0] - reach, 0) : columns[-1] + reach + 1]
    inside = mask[part]
    outside = distance_to_background(~inside)
    # Padded, so that a nodule at the border of the image is eroded there too.
    depth = distance_to_background(np.pad(inside, 1))[1:-1, 1:-1]
    around = (outside > gap) & (outside <= gap + ring) & ~others[part]
    core = depth > min(gap, depth.max() / 2)
    if min(np.count_nonzero(core), np.count_nonzero(around)) < _LEAST_PIXELS:
        return None
    gray = _to_gray(image[part])
    black = _to_gray(image).min() if image.dtype != np.uint8 else 0.0
    tissue = float(np.median(gray[around]) - black)
    return float(np.median(gray[core]) - black) / tissue if tissue > 0 else None


def _to_gray(image: np.ndarray) -> np.ndarray:
    """Average the channels of an image (H, W) or (H, W, C): (H, W) float64."""
    gray = np.asarray(image, np.float64)
    return gray.mean(axis=2) if gray.ndim == 3 else gray
