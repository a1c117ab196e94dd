"""Compute the free-response ROC (FROC): sensitivity against false positives per image.

The rates and their mean are the competition performance metric (CPM) of Niemeijer et al. 2011, "On combining
computer-aided detection systems", section II-D, also used by LUNA16 (Setio et al. 2017). A detection is a hit as in
`matching.match` (mask IoU of at least 0.5, same class). Classes are pooled. Images without instances contribute their
false positives.

The curve is not interpolated: the sensitivity at a rate is the highest one at a threshold with at most that many false
positives per image. The curve ends at the score threshold of the model; higher rates have the sensitivity of the end.
"""

from __future__ import annotations

import numpy as np

from mrcnn.metrics.operating_point import ratio

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image."""


def froc_curve(scores: np.ndarray, hits: np.ndarray, images: int, instances: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the FROC curve, a point per distinct score after the point (0, 0).

    All detections of all images have `scores` (D,) and `hits` (D,) bool. Images without instances count.

    Returns:
        False positives per image and sensitivity, both (P,); empty without images or without instances.

    Example:
        Two images with two instances; the detections are a hit, a false positive and a hit.

        >>> false, sensitivity = froc_curve(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 2, 2)
        >>> false.tolist(), sensitivity.tolist()
        ([0.0, 0.0, 0.5, 0.5], [0.0, 0.5, 0.5, 1.0])
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
    """Compute the sensitivity at each of `RATES`, for each row of image weights.

    Args:
        scores: (D,) scores of all detections of all images.
        hits: (D,) bool, whether each detection is matched with an instance.
        image: (D,) int, index of each detection's image.
        instances: (I,) number of instances per image.
        weights: (B, I) how often each image counts.

    Returns:
        (B, 7) float64; NaN where the weighted images have no instance.

    Example:
        As in `froc_curve`: the second instance needs 0.5 false positives per image.

        >>> scores, hits, image = np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), np.array([0, 0, 1])
        >>> sensitivities(scores, hits, image, np.array([1, 1]), np.ones((1, 2)))[0].tolist()
        [0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    order, ends = _operating_points(scores)
    counted, hits = weights[:, image[order]], hits[order]
    false, found = np.cumsum(counted * ~hits, axis=1)[:, ends], np.cumsum(counted * hits, axis=1)[:, ends]
    allowed = weights.sum(axis=1)[:, None] * np.array(RATES)
    last = np.stack([np.searchsorted(row, limits, side="right") for row, limits in zip(false, allowed, strict=True)])
    found = np.pad(found, ((0, 0), (1, 0)))
    return ratio(np.take_along_axis(found, last, axis=1), np.broadcast_to((weights @ instances)[:, None], last.shape))


def _operating_points(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort by descending score; return the order and the last index of each distinct score in it."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    return order, np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)])
