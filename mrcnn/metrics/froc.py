"""Free-response ROC: sensitivity against false positives an image.

The rates and their mean are the competition performance metric of Niemeijer et al. 2011 ("On combining computer-aided
detection systems"), which LUNA16 (Setio et al. 2017) uses too. A detection is a hit as `matching.match` says (mask IoU
of at least 0.5, same class); classes are pooled, and images without instances count in the false positives. Between two
thresholds nothing is interpolated: the sensitivity at a rate is the highest that a threshold reaches with at most that
many false positives an image. The model's own score threshold ends the curve: rates beyond its end get the sensitivity
there.
"""

from __future__ import annotations

import numpy as np

from mrcnn.metrics.operating_point import ratio

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives an image."""


def froc_curve(scores: np.ndarray, hits: np.ndarray, images: int, instances: int) -> tuple[np.ndarray, np.ndarray]:
    """The curve, one point for each distinct score after the point (0, 0).

    Args:
        scores: (D,) of all detections of all images.
        hits: (D,) bool.

    Returns:
        False positives an image and sensitivity, both (P,); empty without images or without instances.
    """
    if not images or not instances:
        return np.zeros(0), np.zeros(0)
    order, ends = _operating_points(scores)
    hits = hits[order]
    false, found = np.cumsum(~hits)[ends], np.cumsum(hits)[ends]
    return np.concatenate([[0.0], false / images]), np.concatenate([[0.0], found / instances])


def sensitivities(
    scores: np.ndarray, hits: np.ndarray, image: np.ndarray, instances: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Sensitivity at each of `RATES`, once for each row of `weights`; NaN where its images hold no instance.

    Args:
        scores, hits: (D,) of all detections of all images.
        image: (D,) int, position of each detection's image.
        instances: (I,) instances per image.
        weights: (B, I) how often each image counts.

    Returns:
        (B, 7) float64.
    """
    order, ends = _operating_points(scores)
    counted, hits = weights[:, image[order]], hits[order]
    false, found = np.cumsum(counted * ~hits, axis=1)[:, ends], np.cumsum(counted * hits, axis=1)[:, ends]
    allowed = weights.sum(axis=1)[:, None] * np.array(RATES)
    last = np.stack([np.searchsorted(row, limits, side="right") for row, limits in zip(false, allowed, strict=True)])
    found = np.pad(found, ((0, 0), (1, 0)))
    return ratio(np.take_along_axis(found, last, axis=1), np.broadcast_to((weights @ instances)[:, None], last.shape))


def _operating_points(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order of falling score, and the last position of each distinct score in it: equal scores come in together."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    return order, np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)])
