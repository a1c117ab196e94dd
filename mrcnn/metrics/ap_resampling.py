"""AP of resampled images, from COCOeval's matches of the original ones.

A detection's match depends on its own image only, so a resample needs no new matching: the accumulation of COCOeval is
repeated with each image counted as often as it was drawn. Counting a detection w times at once leaves the interpolated
precision as it is with w copies in a row: only the last copy of a hit, and the point before a false positive, can be
its running maximum. Detections of equal score in different images keep the order of the original images.
"""

from __future__ import annotations

import numpy as np

from mrcnn.metrics.coco_ap import IOUS, NAMED_IOUS, RECALLS, CocoScores, Ranked


def resampled_average_precisions(scores: CocoScores, weights: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
    """`<prefix>_ap`, `_ap10`, `_ap50`, `_ap75` over all classes, once for each row of `weights` (B, I).

    A class without instances in a resample stays out of its mean; NaN where that leaves no class.
    """
    per_class = np.stack([_class_ap(ranked, weights) for ranked in scores.ranked])  # (K, B, T)
    defined = ~np.isnan(per_class[:, :, 0])
    classes = defined.sum(axis=0)
    total = np.where(defined[:, :, None], per_class, 0.0).sum(axis=0)
    mean = np.where(classes[:, None] > 0, total / np.maximum(classes, 1)[:, None], np.nan)
    return {f"{prefix}_{name}": mean[:, positions].mean(axis=1) for name, positions in NAMED_IOUS.items()}


def _class_ap(ranked: Ranked, weights: np.ndarray) -> np.ndarray:
    """(B, T), NaN where the resample holds no instance of the class."""
    instances = weights @ ranked.instances
    result = np.full((len(weights), len(IOUS)), np.nan)
    # Between hits the precision only falls: the interpolated precision is decided at the hits.
    counted = weights[:, ranked.image]
    all_seen = np.cumsum(counted, axis=1)
    for threshold, (hits, ignored) in enumerate(zip(ranked.hits, ranked.ignored, strict=True)):
        seen = np.cumsum(counted * ~ignored, axis=1) if ignored.any() else all_seen
        at = np.flatnonzero(hits)
        found = np.cumsum(counted[:, at], axis=1)
        precision = np.divide(found, seen[:, at], out=np.zeros_like(found), where=seen[:, at] > 0)
        interpolated = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        interpolated = np.pad(interpolated, ((0, 0), (0, 1)))  # precision 0 at recalls that are never reached
        for row in np.flatnonzero(instances):
            reached = np.searchsorted(found[row] / instances[row], RECALLS, side="left")
            result[row, threshold] = interpolated[row, reached].mean()
    return result
